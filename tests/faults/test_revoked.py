"""A cancelled task never runs, or never completes, with real workers that are notified and then restarted."""

import subprocess
import sys
import time
from uuid import UUID

import pytest
from celery.result import AsyncResult
from django.db import connection, transaction

from celery_ledger.models import DurableTask
from store.models import Collection
from tests import probe
from tests.processes import ROOT, wait_until

pytestmark = pytest.mark.processes
Status = DurableTask.Status


@pytest.mark.fault("F98")
def test_f98_what_workers_are_told_to_revoke_never_runs_whatever_restarts(machine):
    worker = machine.start_worker()
    revoked = probe.make_collection.apply_async(("revoked",), countdown=30)
    told = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "control", "--timeout", "20", "revoke", revoked.id],
        cwd=ROOT,
        env=machine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 cancelled, 0 running, 0 had ended" in told.stdout, told.stdout + told.stderr
    machine.start_relay()
    worker.stop()
    machine.start_worker()
    DurableTask.objects.update(available_at="2010-12-01T08:00Z")
    other = probe.make_collection.apply_async(("other",), countdown=1)
    wait_until("the other is done", lambda: DurableTask.objects.get(id=other.id).status == Status.SUCCEEDED)
    task = DurableTask.objects.get(id=revoked.id)
    assert (task.status, task.published_at, task.attempts) == (Status.CANCELLED, None, 0)
    assert list(Collection.objects.values_list("title", flat=True)) == ["other"]
    assert revoked.state == "REVOKED"


def terminate(machine, *ids):
    """Have an operator cancel tasks at a terminal of the machine, also while they run; return how many were."""
    told = subprocess.run(
        [sys.executable, "manage.py", "outbox", "cancel", *ids, "--reason", "a test", "--terminate"],
        cwd=ROOT,
        env=machine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout == f"{len(ids)} cancelled.\n", told.stdout + told.stderr


@pytest.mark.fault("F129")
def test_f129_what_runs_is_ended_if_so_asked_and_never_runs_again_whatever_restarts(machine, tmp_path):
    relay = machine.start_relay()
    worker = machine.start_worker("-E", concurrency=3)
    outside = probe.leave_mark.delay(str(tmp_path / "mark"), 60)
    wait_until("it runs", lambda: worker.says(f"{tmp_path / 'mark'} is under way"))
    alone = [probe.make_slowly.delay("alone", 60)] if connection.vendor == "postgresql" else []  # Or it is all alone.
    with transaction.atomic():
        beside = probe.make_slowly_together.delay(["beside", 0])
        bundled = probe.make_slowly_together.delay(["bundled", 60])
    for what in ["alone"] * len(alone) + ["bundled"]:
        wait_until(f"{what} runs", lambda what=what: worker.says(f"{what} is under way"))
    children = set(worker.children())
    ids = [outside.id, bundled.id, *(handle.id for handle in alone)]
    began = time.monotonic()
    terminate(machine, *ids)
    assert time.monotonic() - began < 30
    wait_until("its company is done", lambda: beside.state == "SUCCESS")
    assert len(children & set(worker.children())) == 3 - len(ids)  # One process for each.
    relay.kill()
    worker.kill()
    machine.flush_broker()
    DurableTask.objects.update(available_at="2010-12-01T08:00Z")
    machine.start_relay()
    again = machine.start_worker()
    other = probe.make_collection.delay("other")
    wait_until("the other is done", lambda: other.state == "SUCCESS")
    rows = DurableTask.objects.in_bulk()
    assert {rows[UUID(id)].status for id in ids} == {Status.CANCELLED}
    assert {rows[UUID(id)].last_error for id in ids} == {"Cancelled: a test"}
    assert {AsyncResult(id).state for id in ids} == {"REVOKED"}
    assert (rows[UUID(beside.id)].attempts, rows[UUID(beside.id)].lapses) == (1, 0)
    assert not again.says("is under way")
    assert sorted(Collection.objects.values_list("title", flat=True)) == ["beside", "other"]
    assert not (tmp_path / "mark").exists()
