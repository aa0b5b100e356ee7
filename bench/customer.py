"""
A web process's part of bench/chaos.py: ``python -m bench.customer FIRST LAST RATE SEED LEDGER``.

Places orders FIRST to LAST and writes the number and the id of each acknowledged order into LEDGER, like a customer's
receipt. An order that raised an error counts as refused, as by a 500; the customer tries again, and may get a second
one.
"""

import logging
import sys
import time
from importlib import import_module
from pathlib import Path

import django

TRIES = 20


def main() -> None:
    first, last, rate, seed = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    django.setup()
    from django.conf import settings
    from django.db import close_old_connections

    from bench.carts import carts
    from bench.order import place

    logging.disable()
    enqueue = import_module(settings.CONTENDER.jobs).enqueue
    cart = carts(seed)
    with Path(sys.argv[5]).open("a") as ledger:
        for number in range(first, last):
            began = time.monotonic()
            for _ in range(TRIES):
                try:
                    order = place(next(cart), enqueue)
                except Exception:  # noqa: BLE001 - whatever it was, the customer is told to try again
                    ledger.write(f"{number} refused\n")
                    ledger.flush()
                    close_old_connections()
                    time.sleep(0.2)
                    continue
                ledger.write(f"{number} {order.pk}\n")
                ledger.flush()
                break
            time.sleep(max(0.0, 1 / rate - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
