"""
A process that times the relay's claim on whatever is in the ledger: ``python -m bench.claiming TURNS``.

Each claim is rolled back, so that every turn sees the same table. Prints milliseconds and rows per claim.
"""

import sys
import time
from typing import Any

import django

from bench.told import work_when_told


def main() -> None:
    django.setup()
    from django.db import transaction

    from celery_ledger.relay import relay
    from celery_ledger.rows import ledger

    def measure() -> dict[str, Any]:
        times, rows = [], 0
        for _ in range(int(sys.argv[1])):
            with transaction.atomic():
                start = time.perf_counter()
                rows = len(ledger.claim({"default": 10 * relay.CLAIM_LIMIT}, lease=60, limit=relay.CLAIM_LIMIT))
                times.append(round(1000 * (time.perf_counter() - start), 3))
                transaction.set_rollback(True)
        return {"claims_ms": times, "rows": rows}

    work_when_told(measure)


if __name__ == "__main__":
    main()
