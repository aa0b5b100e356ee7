"""``Ignore`` and ``Reject``: bodies that end without a success or a failure to report."""

import pytest
from celery import signals
from celery.exceptions import Ignore, Reject
from celery.result import AsyncResult

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain, pass_time
from store.models import Collection
from tests import probe

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


@pytest.fixture
def told():
    """What receivers of Celery's signals about an end hear, by the signal's name and the state."""
    heard = []

    def hear(signal, state=None, **_):
        heard.append((signal.name, state))

    those = signals.task_postrun, signals.task_success, signals.task_failure, signals.task_retry
    for signal in those:
        signal.connect(hear, weak=False)
    yield heard
    for signal in those:
        signal.disconnect(hear)


@pytest.mark.parametrize("task", [probe.make_collection, probe.ring])
def test_what_ends_by_ignore_is_done_keeps_its_effects_and_has_no_result(told, task):
    probe.failing["garden"] = Ignore("somebody else does it")
    handle = task.delay("garden")
    drain()
    row = DurableTask.objects.get()
    assert (row.status, row.attempts, row.last_error) == (Status.SUCCEEDED, 1, "Ignore: somebody else does it")
    assert told == [("task_postrun", "IGNORED")]
    assert AsyncResult(handle.id).state != "SUCCESS"
    assert Collection.objects.count() == (task is probe.make_collection)


@pytest.mark.parametrize("task", [probe.make_collection, probe.ring])
def test_what_is_rejected_is_a_dead_letter_at_once(told, task):
    probe.failing["garden"] = Reject("not mine")
    task.delay("garden")
    drain()
    row = DurableTask.objects.get()
    assert (row.status, row.attempts) == (Status.DEAD, 1)
    assert "not mine" in row.last_error
    assert told == [("task_postrun", "REJECTED")]
    assert not Collection.objects.exists()


@pytest.mark.parametrize("task", [probe.make_collection, probe.ring])
def test_what_is_put_back_comes_again_and_uses_up_no_retry(told, monkeypatch, task):
    monkeypatch.setattr(task, "max_retries", 0)
    probe.failing["garden"] = Reject("not yet", requeue=True)
    task.delay("garden")
    for _ in range(3):
        drain()
        pass_time(hours=1)
    row = DurableTask.objects.get()
    assert (row.status, row.attempts) == (Status.PENDING, 3)
    assert told == [("task_postrun", "REJECTED")] * 3
    probe.failing["garden"] = RuntimeError("for good")
    drain()
    row.refresh_from_db()
    assert (row.status, row.attempts) == (Status.DEAD, 4)
