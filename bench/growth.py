"""How the duration of order, claim and drain depends on the size of the ledger."""

import statistics
from collections.abc import Callable
from typing import Any

from bench import contenders
from bench.database import Database
from bench.processes import Bench, Consumers, Told
from bench.redis_server import RedisServer
from bench.size import EFFECTS_AN_ORDER, Size
from bench.stages import PATIENCE, quantile

CLAIMS = 30

#: Rows of existing orders, so that their tasks can run. The ids are of version 7, an hour ago and on.
FILL = """
    INSERT INTO celery_ledger_durabletask (id, name, queue, status, args, kwargs, subject, created_at, available_at,
                                    published_at, completed_at, attempts)
    SELECT encode(set_byte(substring(int8send(
               (extract(epoch FROM moment) * 1000)::bigint) FROM 3) || gen.random, 6,
               112 | (get_byte(gen.random, 0) & 15)), 'hex')::uuid,
           (ARRAY['bench.send_confirmation', 'bench.settle_stock', 'bench.record_sale'])[1 + n %% 3], 'default',
           %(status)s::text, jsonb_build_array(1 + n / 3 %% %(orders)s::int), '{}', 'bench.order:' || n / 3,
           moment, moment,
           CASE WHEN %(status)s::text = 'succeeded' THEN moment END,
           CASE WHEN %(status)s::text = 'succeeded' THEN moment END,
           CASE WHEN %(status)s::text = 'succeeded' THEN 1 ELSE 0 END
    FROM generate_series(0, %(rows)s::int - 1) AS n
    CROSS JOIN LATERAL (SELECT now() - interval '1 hour' + n * interval '1 millisecond' AS moment) AS at
    CROSS JOIN LATERAL (SELECT decode(md5(random()::text || n), 'hex') AS whole) AS bits
    CROSS JOIN LATERAL (SELECT substring(whole FROM 1 FOR 10) AS random) AS gen
"""
RESULTS = """
    INSERT INTO django_celery_results_taskresult
        (task_id, task_name, status, content_type, content_encoding, result, date_created, date_done, meta)
    SELECT id::text, name, 'SUCCESS', 'application/json', 'utf-8', 'null', created_at, completed_at, '{"children": []}'
    FROM celery_ledger_durabletask
"""


def growth(
    bench: Bench, database: Database, broker: RedisServer, size: Size, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Measure with this many pending or kept rows present."""
    contender = contenders.load("shopwire")
    found = []
    for rows in size.growth:
        for status in ("pending", "succeeded"):
            say(f"growth: {rows} rows {status}")
            broker.empty()
            database.empty(contender.tables)
            orders = max(1, min(rows, 10_000) // EFFECTS_AN_ORDER)
            database.run("INSERT INTO bench_order (total) SELECT 1 FROM generate_series(1, %s)", [orders])
            _fill(database, rows, status, orders)
            figures: dict[str, Any] = {"rows": rows, "status": status}
            latencies = Told(bench, contender, "producer", size.growth_orders).go().result()["latencies_ms"]
            figures |= {"order_p50_ms": statistics.median(latencies), "order_p99_ms": quantile(latencies, 0.99)}
            # The number of rows to drain does not depend on the number pending: it exceeds what the relay claims ahead
            # of the workers, which would otherwise have the machine to themselves if few are pending.
            pending = database.value("SELECT count(*) FROM celery_ledger_durabletask WHERE status = 'pending'")
            if pending < size.growth_effects:
                _fill(database, size.growth_effects - pending, "pending", orders)
            claims = Told(bench, contender, "claiming", CLAIMS).go().result()
            figures |= {"claim_p50_ms": statistics.median(claims["claims_ms"]), "claimed_rows": claims["rows"]}
            with Consumers(bench, contender):
                database.wait_for_effects(PATIENCE, orders=size.growth_effects // EFFECTS_AN_ORDER)
            figures["drain_effects_per_s"] = database.drain_rate(first=size.growth_effects)
            figures["exact"] = database.value("SELECT count(*) FROM bench_effect") == database.value(
                "SELECT count(*) FROM celery_ledger_durabletask WHERE status = 'succeeded'"
            ) - (rows if status == "succeeded" else 0)
            found.append(figures)
            say(str(figures))
    database.empty(contender.tables)
    return found


def _fill(database: Database, rows: int, status: str, orders: int) -> None:
    database.connection.execute(FILL, {"status": status, "rows": rows, "orders": orders})
    if status == "succeeded":
        database.run(RESULTS)
    # As autovacuum would have done before a table had grown this much.
    database.run("VACUUM ANALYZE celery_ledger_durabletask, django_celery_results_taskresult")
    database.run("CHECKPOINT")
