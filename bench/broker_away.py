"""The duration of an order while the broker responds, hangs (SIGSTOP), or is gone."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from bench import contenders
from bench.contender import Contender
from bench.database import Database
from bench.processes import Bench, Consumers, Told
from bench.redis_server import RedisServer
from bench.size import Size
from bench.stages import quantile

CONTENDERS = ("shopwire", "celery_on_commit")
RETURN_PATIENCE = 20.0  # seconds without any effect after the broker is back


def broker_away(
    bench: Bench, database: Database, broker: RedisServer, size: Size, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Place the same orders in all three cases; then bring the broker back and count the effects."""
    found: dict[str, dict[str, Any]] = {}
    for name in CONTENDERS:
        contender = contenders.load(name)
        broker.empty()
        database.empty(contender.tables)
        found[name] = {}
        with Consumers(bench, contender):
            for case, begin, end in (
                ("up", lambda: None, lambda: None),
                ("hangs", broker.hang, broker.resume),
                ("gone", broker.stop, broker.start),
            ):
                figures = _place(bench, contender, size, begin, end)
                found[name][case] = figures
                say(f"broker {case}: {name} {figures}")
            began = time.monotonic()
            database.wait_for_effects(RETURN_PATIENCE)
            found[name]["afterwards"] = database.exactness() | {"seconds": time.monotonic() - began}
            say(f"broker back: {name} {found[name]['afterwards']}")
    return found


def _place(
    bench: Bench, contender: Contender, size: Size, begin: Callable[[], None], end: Callable[[], None]
) -> dict[str, Any]:
    producer = Told(bench, contender, "producer", size.broker_orders, "--limit", size.broker_limit)
    begin()
    try:
        producer.go()
        measured = producer.result()
    finally:
        end()
    latencies = measured["latencies_ms"]
    return {
        "orders": len(latencies),
        "p50_ms": statistics.median(latencies) if latencies else None,
        "p99_ms": quantile(latencies, 0.99) if latencies else None,
        "max_ms": max(latencies, default=None),
        "errors": len(measured["errors"]),
        "no_answer_in_s": size.broker_limit if measured["gave_up"] else None,
    }
