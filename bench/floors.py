"""Lower bounds for every contender: the same statements with the bare driver, and Redis alone."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import psycopg

from bench.carts import RESERVE, carts
from bench.database import Database
from bench.growth import FILL
from bench.redis_server import RedisServer
from bench.size import LINES, Size
from bench.stages import quantile
from celery_ledger.rows.sql import POSTGRESQL
from celery_ledger.uuid7 import uuid7

KINDS = ("confirmation", "stock", "sale")
ORDER = "INSERT INTO bench_order (total) VALUES (%s) RETURNING id"
ORDER_LINES = "INSERT INTO bench_orderline (order_id, product_id, quantity, unit_price) VALUES " + ",".join(
    ["(%s, %s, %s, %s)"] * LINES
)
EFFECT_AND_RECEIPT = """
    WITH done AS (
        INSERT INTO bench_receipt (id) SELECT unnest(%s::uuid[]) ON CONFLICT DO NOTHING RETURNING id
    )
    INSERT INTO bench_effect (order_id, kind)
    SELECT task.order_id, 'stock' FROM unnest(%s::uuid[], %s::bigint[]) AS task(id, order_id) JOIN done USING (id)
"""
EFFECTS = "INSERT INTO bench_effect (order_id, kind) SELECT unnest(%s::bigint[]), 'stock'"
MESSAGE = b"x" * 800
WARM_UP = 10  # turns
DRAINED = 200  # at most this many rows per message, as jobs/shopwire.py declares


def floors(database: Database, broker: RedisServer, size: Size) -> dict[str, dict[str, float]]:
    """Measure each bound with one process."""
    database.empty(["celery_ledger_durabletask"])
    database.run("DROP TABLE IF EXISTS bench_receipt")
    database.run("CREATE TABLE bench_receipt (id uuid PRIMARY KEY)")
    found = {}
    for title, binding in (("prepared", psycopg.Cursor), ("bound by the client, as Django does", psycopg.ClientCursor)):
        with psycopg.connect(database.url, cursor_factory=binding, prepare_threshold=2) as connection:
            found[f"order and three ledger rows, {title}"] = _timed(_order(connection), size.floor_turns)
    with psycopg.connect(database.url, prepare_threshold=2) as connection:
        for batch in (1, 50, 200):
            figures = _timed(_effects(connection, batch), max(20, size.floor_turns // batch))
            figures["effects_per_s"] = figures["per_s"] * batch
            found[f"effect and receipt, {batch} in one statement"] = figures
        turns = max(20, size.floor_turns // DRAINED)
        figures = _timed(_drain(connection, DRAINED, turns), turns)
        figures["effects_per_s"] = figures["per_s"] * DRAINED
        found[f"a worker's statements for {DRAINED} rows: complete, effects, results and counts"] = figures
    for title, command in (("LPUSH", _push), ("BRPOP", _pop)):
        found[f"Redis {title}, 800 bytes"] = _timed(command(broker), size.floor_turns)
    database.run("DROP TABLE bench_receipt")
    return found


def _timed(step: Callable[[], Any], turns: int) -> dict[str, float]:
    for _ in range(WARM_UP):
        step()
    times = []
    cpu, began = time.process_time(), time.perf_counter()
    for _ in range(turns):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    seconds = time.perf_counter() - began
    return {
        "per_s": turns / seconds,
        "p50_ms": statistics.median(times),
        "p99_ms": quantile(times, 0.99),
        "cpu_ms": 1000 * (time.process_time() - cpu) / turns,
    }


def _order(connection: psycopg.Connection[Any]) -> Callable[[], None]:
    cart = carts(seed=5)

    def step() -> None:
        lines = next(cart)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(RESERVE, [list(lines), list(lines.values())])
            cursor.fetchall()
            order = cursor.execute(ORDER, ["9.99"]).fetchone()[0]
            cursor.execute(ORDER_LINES, [value for id, n in lines.items() for value in (order, id, n, "9.99")])
            cursor.execute(
                POSTGRESQL.enqueue,
                {
                    "ids": [uuid7() for _ in KINDS],
                    "names": [f"bench.{kind}" for kind in KINDS],
                    "queues": ["default" for _ in KINDS],
                    "priorities": [5 for _ in KINDS],
                    "args": [json.dumps([order]) for _ in KINDS],
                    "kwargs": ["{}" for _ in KINDS],
                    "subjects": [f"bench.order:{order}" for _ in KINDS],
                    "request_ids": ["" for _ in KINDS],
                    "unique_keys": [None for _ in KINDS],
                    "etas": [None for _ in KINDS],
                    "countdowns": [0.0 for _ in KINDS],
                    "expiries": [None for _ in KINDS],
                    "lifetimes": [None for _ in KINDS],
                    "options": [None for _ in KINDS],
                    "standing_keys": [None for _ in KINDS],
                    "unique_fors": [None for _ in KINDS],
                    "terms": [None for _ in KINDS],
                },
            )

    return step


def _effects(connection: psycopg.Connection[Any], batch: int) -> Callable[[], None]:
    order = connection.execute("SELECT max(id) FROM bench_order").fetchone()[0]

    def step() -> None:
        ids = [uuid7() for _ in range(batch)]
        with connection.transaction():
            connection.execute(EFFECT_AND_RECEIPT, [ids, ids, [order] * batch])

    return step


def _drain(connection: psycopg.Connection[Any], batch: int, turns: int) -> Callable[[], None]:
    """A worker's statements for a message of ``batch`` rows of one task."""
    rows = batch * (turns + WARM_UP)
    connection.execute(FILL, {"status": "published", "rows": rows, "orders": 1})
    ids = [id for (id,) in connection.execute("SELECT id FROM celery_ledger_durabletask ORDER BY id").fetchall()]
    connection.execute("ANALYZE celery_ledger_durabletask")
    connection.commit()
    order = connection.execute("SELECT max(id) FROM bench_order").fetchone()[0]
    outcome = {"states": ["SUCCESS"] * batch, "results": ["null"] * batch, "tracebacks": [None] * batch}

    def step() -> None:
        message = [ids.pop() for _ in range(batch)]
        with connection.transaction():
            taken = connection.execute(POSTGRESQL.complete, {"ids": message, "counted": 1, "most_lapses": 1})
            connection.execute(EFFECTS, [[order] * len(taken.fetchall())])
            for statement in POSTGRESQL.results:
                connection.execute(statement, {"ids": message, "worker": "floor", "slot": 0, "meta": "{}", **outcome})

    return step


def _push(broker: RedisServer) -> Callable[[], Any]:
    return lambda: broker.client.lpush("bench", MESSAGE)


def _pop(broker: RedisServer) -> Callable[[], Any]:
    return lambda: broker.client.brpop("bench", timeout=1)
