"""A pooler between the relay and PostgreSQL: the relay leaves nothing behind in shared sessions."""

import psycopg
import pytest
from django.db import connection

from celery_ledger.models import DurableTask
from celery_ledger.trips import is_pooled
from tests import probe
from tests.faults.test_lost_processes import all_succeeded
from tests.own_pgbouncer import OwnPgBouncer, find_pgbouncer
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]
SESSIONS = 4


@pytest.fixture
def pgbouncer(machine, tmp_path):
    program = find_pgbouncer()
    if program is None:
        pytest.skip("there is no pgbouncer")
    pooler = OwnPgBouncer(program, machine.environment["DATABASE_URL"], tmp_path / "pgbouncer.log", sessions=SESSIONS)
    yield pooler
    pooler.close()


def of_each_session(url, sql):
    """Ask each session that the pooler lends."""
    links = [psycopg.connect(url, prepare_threshold=None) for _ in range(SESSIONS)]
    try:
        answers = {}
        for link in links:  # Each is in a transaction until all are: so each has a session of its own.
            pid, answer = link.execute(f"SELECT pg_backend_pid(), ({sql})").fetchone()
            answers[pid] = answer
        return answers
    finally:
        for link in links:
            link.close()


@pytest.mark.fault("F89")
def test_f89_a_relay_behind_a_pooler_leaves_nothing_in_the_sessions_that_it_was_lent(machine, pgbouncer):
    relay = machine.start_relay(DATABASE_URL=pgbouncer.url, PREPARED_STATEMENTS="0")
    wait_until("it knows of the pooler", lambda: relay.says("The database is behind a pooler"))
    machine.start_worker()
    for number in range(20):
        probe.make_collection.delay(f"shelf {number}")
        wait_until("it is done", all_succeeded)
    modes = of_each_session(pgbouncer.url, "SELECT current_setting('synchronous_commit')")
    assert set(modes.values()) == {"on"}
    listening = of_each_session(pgbouncer.url, "SELECT count(*) FROM pg_listening_channels()")
    assert set(listening.values()) == {0}
    assert len(listening) == SESSIONS
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        )
        assert cursor.fetchone()[0] == 0
    lags = DurableTask.objects.values_list("available_at", "published_at")
    print(f"F89: longest wait for a pooled relay {max(after - due for due, after in lags).total_seconds():.3f} s")
    assert relay.is_alive
    assert not is_pooled()
