"""
A process that measures the lag from commit to last effect: ``python -m bench.probe PROBES``.

It places an order, then checks every millisecond whether other sessions can see the three effects. Prints the lags in
milliseconds as JSON; null stands for one that took too long.
"""

import argparse
import logging
import time
from importlib import import_module
from typing import Any

import django

from bench.told import work_when_told

LOOK_EVERY = 0.001  # seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("probes", type=int)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between a probe's end and the next")
    parser.add_argument("--patience", type=float, default=15.0, help="seconds until a probe is given up")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds after which no more probes start")
    options = parser.parse_args()

    django.setup()
    from django.conf import settings
    from django.db import connection, transaction

    from bench.carts import carts
    from bench.effects import KINDS
    from bench.models import Order
    from bench.order import place

    logging.disable()
    enqueue = import_module(settings.CONTENDER.jobs).enqueue
    cart = carts(seed=2)

    def effects_are_there(order_id: int) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM bench_effect WHERE order_id = %s", [order_id])
            return bool(cursor.fetchone()[0] >= len(KINDS))

    def lag_of_one() -> float | None:
        committed = 0.0

        def note_commit() -> None:
            nonlocal committed
            committed = time.perf_counter()

        def enqueue_after_note(order: Order) -> None:
            transaction.on_commit(note_commit)  # Before those in which others publish: their time is part of the lag.
            enqueue(order)

        order = place(next(cart), enqueue_after_note)
        while not effects_are_there(order.pk):
            if time.perf_counter() - committed > options.patience:
                return None
            time.sleep(LOOK_EVERY)
        return round(1000 * (time.perf_counter() - committed), 3)

    def measure() -> dict[str, Any]:
        began = time.perf_counter()
        lags: list[float | None] = []
        while len(lags) < options.probes and time.perf_counter() - began < options.seconds:
            time.sleep(options.pause)
            lags.append(lag_of_one())
        return {"lags_ms": lags}

    lag_of_one()
    work_when_told(measure)


if __name__ == "__main__":
    main()
