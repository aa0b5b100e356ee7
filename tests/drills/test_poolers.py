"""PgBouncer in transaction mode before everything, web, workers and relays, and restarted under load."""

import re
import subprocess
import time

import psycopg
import pytest
from django.db import connection

from tests.drills.count import count, settle
from tests.faults.buyers import Buyers
from tests.faults.test_poolers import of_each_session
from tests.own_pgbouncer import OwnPgBouncer, find_pgbouncer
from tests.processes import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.processes, pytest.mark.postgresql, pytest.mark.timeout(600)]
SESSIONS = 4
ORDERS = 200
LIMITS = {"idle_in_transaction_session_timeout": "45s", "jit": "off", "client_connection_check_interval": "5s"}


def version(program):
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", answer)[:2]))


@pytest.mark.parametrize("prepared", [False, True], ids=["unprepared", "prepared"])
def test_everything_behind_a_pooler_that_is_restarted_under_load(
    own_postgresql, machine, mail_server, tmp_path, say, prepared
):
    program = find_pgbouncer()
    if program is None:
        pytest.skip("there is no pgbouncer")
    if prepared and version(program) < (1, 21):
        pytest.skip(f"PgBouncer {version(program)} knows no prepared statements")
    with psycopg.connect(own_postgresql.url(), autocommit=True) as link:
        link.execute("CREATE ROLE shop LOGIN SUPERUSER")  # Which owns nothing: the tables were copied.
    direct = own_postgresql.url().replace("postgres@", "shop@")
    settings = "max_prepared_statements = 200\n" if prepared else ""
    pooler = OwnPgBouncer(program, direct, tmp_path / "pgbouncer.log", sessions=SESSIONS, settings=settings)
    try:
        machine.environment |= {
            "DATABASE_URL": pooler.url,
            "DATABASE_POOLED": "1",
            "PREPARED_STATEMENTS": "01"[prepared],
        }
        assert machine.run_command("database_limits").returncode == 1
        told = machine.run_command("database_limits", "--set")
        assert told.returncode == 0, told.stderr
        pooler.restart()
        for name, value in LIMITS.items():
            assert set(of_each_session(pooler.url, f"SELECT current_setting('{name}')").values()) == {value}
        processes = [machine.start_web(), machine.start_relay(), machine.start_relay(), machine.start_worker()]
        assert processes[1].says("The database is behind a pooler")
        buyers = Buyers(ORDERS)
        began = time.monotonic()
        buyers.begin(machine.web_url, at_once=4)
        for share in (0.3, 0.6):
            wait_until("orders are placed", lambda share=share: len(buyers.told) >= share * ORDERS)
            pooler.restart()
        buyers.join()
        took = time.monotonic() - began
        settle(own_postgresql.url())
        found = count(own_postgresql.url(), buyers, mail_server.received)
        say(f"{found}; {ORDERS / took:.0f} orders/s, answers {dict(buyers.statuses())}")
        for command in (("outbox", "verify"), ("outbox", "stats"), ("doctor",), ("database_limits",)):
            answer = machine.run_command(*command)
            assert "does not exist" not in answer.stdout + answer.stderr
            assert answer.returncode == 0 or command == ("doctor",), (command, answer.stdout, answer.stderr)
        assert "connections go through a pooler" in machine.run_command("doctor").stdout
        assert set(of_each_session(pooler.url, "SELECT current_setting('synchronous_commit')").values()) == {"on"}
        assert set(of_each_session(pooler.url, "SELECT count(*) FROM pg_listening_channels()").values()) == {0}
        assert all(process.is_alive for process in processes)
        assert found.is_clean
        assert len(buyers.told) == ORDERS
    finally:
        connection.close()
        pooler.close()
