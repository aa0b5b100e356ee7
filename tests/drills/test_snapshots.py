"""Claims and sweeps while a transaction stays open: their cost from the oldest entry, and from where they start."""

import json
import os
import time
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.db.models.functions import Now

from celery_ledger.models import PRIORITIES
from celery_ledger.relay.low_water import LowWater
from celery_ledger.relay.reach import LATE
from celery_ledger.rows import ledger
from celery_ledger.rows.ledger import WHOLE
from celery_ledger.rows.sql import statements
from tests.processes import database_url

pytestmark = [pytest.mark.drill, pytest.mark.postgresql, pytest.mark.timeout(900)]
#: So many rows are called, claimed and done under the snapshot; a thousand a second would be as many in so much time.
ROWS = int(os.environ.get("ROWS", "100000"))
INSERT = """
    INSERT INTO celery_ledger_durabletask (id, name, queue, args, kwargs)
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(random()::text), 1, 19))::uuid, 'tests.nothing', 'default', '[]', '{}'
    FROM generate_series(1, %s)
"""
DONE = "UPDATE celery_ledger_durabletask SET status = 'succeeded', lease_until = NULL WHERE id = ANY(%s)"


def cost(back):
    """Return milliseconds and blocks of a claim of twenty rows that looks so many seconds back."""
    parameters = {"queues": ["default"], "rooms": [20], "back": [back], "priorities": list(PRIORITIES)}
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
        cursor.execute(explain + statements("postgresql").claim, {**parameters, "lease": 60.0, "limit": 1000})
        [[answer]] = [cursor.fetchone()]
        cursor.execute("ROLLBACK")
    [plan] = json.loads(answer) if isinstance(answer, str) else answer
    blocks = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    return plan["Execution Time"], blocks


def work(rows):
    """Have so many rows claimed and done."""
    with connection.cursor() as cursor:
        for _ in range(rows // 1000):
            cursor.execute(INSERT, [1000])
            cursor.execute(DONE, [[row.id for row in ledger.claim({"default": 1100}, lease=60, limit=1100)]])


def cost_of_sweep(water):
    """Return milliseconds and blocks of what a sweep asks about leases, with the look at where they start."""
    with connection.cursor() as cursor:
        sql = statements("postgresql").earliest_leases
        cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", {"ended": water.ended, "published": water.published}
        )
        found = [cursor.fetchone()[0]]
    water.look(lease=60)
    waiting = ledger.leased(water.published).filter(status="published", published_at__lt=Now() - timedelta(seconds=5))
    expired = ledger.leased(water.ended).filter(status="running", lease_until__lt=Now()).order_by("lease_until")
    for rows in (waiting.order_by().values("queue").distinct(), expired.values("id")[:1000]):
        found.append(rows.explain(analyze=True, buffers=True, format="json"))
    plans = [(json.loads(plan) if isinstance(plan, str) else plan)[0] for plan in found]
    blocks = sum(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] for plan in plans)
    return sum(plan["Execution Time"] for plan in plans), blocks


def test_a_sweep_under_an_old_snapshot(transactional_db, say):
    with psycopg.connect(database_url()) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM celery_ledger_durabletask")
        water = LowWater()
        before = cost_of_sweep(water)
        work(ROWS)
        whole = cost_of_sweep(LowWater())
        water.look(lease=60)
        time.sleep(1)
        work(1000)
        bounded = cost_of_sweep(water)
    say(
        f"{ROWS} rows done under a snapshot: a sweep's questions about leases took {before[0]:.1f} ms and {before[1]} "
        f"blocks before, {whole[0]:.1f} ms and {whole[1]} blocks from the earliest lease, {bounded[0]:.1f} ms and "
        f"{bounded[1]} from the earliest that was left"
    )
    assert bounded[1] < whole[1] / 5


def test_a_claim_under_an_old_snapshot(transactional_db, say):
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [20])
    before = cost(WHOLE)
    with psycopg.connect(database_url()) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM celery_ledger_durabletask")
        with connection.cursor() as cursor:
            work(ROWS)
            time.sleep(LATE)
            for _ in range(4):  # A thousand a second.
                cursor.execute(INSERT, [500])
                cursor.execute(DONE, [[row.id for row in ledger.claim({"default": 1100}, lease=60, limit=1100)]])
                time.sleep(0.5)
            cursor.execute(INSERT, [20])
        whole, reach = cost(WHOLE), cost(LATE + 0.05)
    say(
        f"{ROWS} rows done under a snapshot: a claim of 20 took {before[0]:.1f} ms and {before[1]} blocks before, "
        f"{whole[0]:.1f} ms and {whole[1]} blocks from the oldest, {reach[0]:.1f} ms and {reach[1]} "
        "blocks within its reach"
    )
    assert reach[1] <= 1000
