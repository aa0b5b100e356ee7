"""
A process that places orders on command: ``python -m bench.producer ORDERS``.

Prints the milliseconds of each, and its own CPU time.
"""

import argparse
import logging
import signal
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import django

from bench.told import work_when_told

WARM_UP = 10  # orders


class TimeIsUpError(BaseException):
    """The time limit ended. Not an Exception, so that no handler under test takes it for an error."""


def _raise_time_is_up(*_: Any) -> None:
    raise TimeIsUpError


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("orders", type=int)
    parser.add_argument("--rate", type=float, help="orders per second; as many as it can by default")
    parser.add_argument("--limit", type=int, default=0, help="seconds after which it gives up")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    django.setup()
    from django.conf import settings

    from bench.carts import carts
    from bench.order import place

    logging.disable()
    enqueue = import_module(settings.CONTENDER.jobs).enqueue
    cart = carts(options.seed)
    for _ in range(WARM_UP):
        place(next(cart), enqueue)
    work_when_told(lambda: place_all(options, lambda: place(next(cart), enqueue)))


def place_all(options: argparse.Namespace, place_one: Callable[[], Any]) -> dict[str, Any]:
    """Place the orders; errors of the broker are counted, because they are part of the measurement."""
    latencies: list[float] = []
    errors: list[str] = []
    gave_up = False
    signal.signal(signal.SIGALRM, _raise_time_is_up)
    signal.alarm(options.limit)
    cpu, started_at, began = time.process_time(), time.time(), time.perf_counter()
    try:
        for number in range(options.orders):
            if options.rate:
                time.sleep(max(0.0, began + number / options.rate - time.perf_counter()))
            start = time.perf_counter()
            try:
                place_one()
            except Exception as error:  # noqa: BLE001
                errors.append(type(error).__name__)
            latencies.append(round(1000 * (time.perf_counter() - start), 3))
    except TimeIsUpError:
        gave_up = True
    signal.alarm(0)
    return {
        "started_at": started_at,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "latencies_ms": latencies,
        "errors": errors,
        "gave_up": gave_up,
    }


if __name__ == "__main__":
    main()
