"""The cost of a claim while a transaction stays open: from the oldest entry, and within its reach."""

import json
import os
import time

import psycopg
import pytest
from django.db import connection

from celery_ledger.models import PRIORITIES
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


def test_a_claim_under_an_old_snapshot(transactional_db, say):
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [20])
    before = cost(WHOLE)
    with psycopg.connect(database_url()) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM celery_ledger_durabletask")
        with connection.cursor() as cursor:
            for _ in range(ROWS // 1000):
                cursor.execute(INSERT, [1000])
                cursor.execute(DONE, [[row.id for row in ledger.claim({"default": 1100}, lease=60, limit=1100)]])
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
