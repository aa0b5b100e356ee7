"""Effects outside the database during an outage of the database: recorded nevertheless, and not repeated."""

import threading

import pytest
from django.db import connection

from celery_ledger.models import DurableTask
from celery_ledger.rows import results
from tests import probe
from tests.faults.test_lost_processes import all_succeeded
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]


def marks(path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.fault("F78")
def test_f78_sessions_that_are_cut_off_under_outside_effects_double_none(machine, database_proxy, tmp_path):
    machine.start_relay()
    worker = machine.start_worker(concurrency=4, DATABASE_URL=database_proxy.url, LEDGER_RUNNING_LEASE="2")
    paths = [tmp_path / f"mark {number}" for number in range(4)]
    for path in paths:
        probe.leave_mark.delay(str(path), 3)
    wait_until("they run", lambda: all(worker.says(f"{path} is under way") for path in paths))
    assert database_proxy.cut() >= 4
    wait_until("all are done", all_succeeded, seconds=30)
    assert [marks(path) for path in paths] == [1, 1, 1, 1]
    assert set(DurableTask.objects.values_list("attempts", flat=True)) == {1}
    assert worker.is_alive


@pytest.mark.fault("F78")
def test_f78_a_database_that_restarts_under_outside_effects_doubles_none(own_postgresql, machine, tmp_path):
    machine.start_relay()
    worker = machine.start_worker(concurrency=2, LEDGER_RUNNING_LEASE="2")
    paths = [tmp_path / "short", tmp_path / "long"]
    for path, seconds in zip(paths, (3, 9), strict=True):
        probe.leave_mark.delay(str(path), seconds)
    wait_until("they run", lambda: all(worker.says(f"{path} is under way") for path in paths))
    own_postgresql.stop_at_once()
    connection.close()
    back = threading.Timer(6, own_postgresql.start)  # Long after the leases ended, and the short one.
    back.start()
    back.join()
    wait_until("all are done", all_succeeded, seconds=40)
    assert [marks(path) for path in paths] == [1, 1]
    assert set(DurableTask.objects.values_list("attempts", flat=True)) == {1}
    assert list(results.untrue()) == []
    assert worker.is_alive
