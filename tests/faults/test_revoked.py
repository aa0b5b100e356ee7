"""A task that is revoked never runs, with real workers that are told to revoke it and restarted afterwards."""

import subprocess
import sys

import pytest

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
