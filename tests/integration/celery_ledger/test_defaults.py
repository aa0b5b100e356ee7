"""Tasks with the package's defaults, next to the shop's: errors, crashes and results."""

from datetime import timedelta

import pytest
from celery import states
from celery.backends.filesystem import FilesystemBackend
from celery.exceptions import MaxRetriesExceededError
from django.utils import timezone

from celery_ledger.models import DurableTask
from celery_ledger.relay.relay import Relay
from celery_ledger.rows import ledger
from celery_ledger.task import Task
from celery_ledger.testing import drain, enqueued, pass_time
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status
seen = []


@app.task(name="tests.fail_plainly", base=Task)
def fail_plainly():
    seen.append("run")
    raise OSError("no")


@app.task(name="tests.retry_as_celery_says", base=Task, autoretry_for=(OSError,), max_retries=2, default_retry_delay=30)
def retry_as_celery_says():
    seen.append("run")
    raise OSError("no")


@app.task(name="tests.give_up_in_the_body", base=Task, bind=True, max_retries=1)
def give_up_in_the_body(self):
    try:
        self.retry(countdown=5)
    except MaxRetriesExceededError:
        return "given up"


@app.task(name="tests.charge_once", base=Task, acks_late=False)
def charge_once():
    """Never run: its worker is lost."""


@app.task(name="tests.charge_again", base=Task)
def charge_again():
    """As above, but that it may be run again."""


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


def test_an_error_that_nobody_asked_to_be_retried_is_final():
    fail_plainly.delay()
    drain()
    pass_time(hours=1)
    drain()
    assert seen == ["run"]
    assert enqueued("tests.fail_plainly")[0].status == Status.DEAD


def test_celery_s_own_retries_are_kept():
    retry_as_celery_says.delay()
    for _ in range(4):
        drain()
        pass_time(seconds=31)
    assert len(seen) == 3
    [task] = enqueued("tests.retry_as_celery_says")
    assert (task.status, task.attempts, task.last_error) == (Status.DEAD, 3, "OSError: no")


def test_a_body_sees_that_it_was_retried_as_often_as_it_may_be():
    give_up_in_the_body.delay()
    drain()
    pass_time(seconds=6)
    drain()
    [task] = enqueued("tests.give_up_in_the_body")
    assert (task.status, task.attempts) == (Status.SUCCEEDED, 2)


def test_a_task_that_must_not_run_twice_is_dead_when_its_worker_is_lost():
    for task in (charge_once, charge_again):
        task.delay()
    for row in ledger.claim({charge_once.default_queue: 10}, lease=60, limit=10):
        ledger.start(row.id, lease=60, limit_of=lambda name: None)
    DurableTask.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    Relay(app, window=10, lease=60).sweep_if_due()
    [once], [again] = enqueued("tests.charge_once"), enqueued("tests.charge_again")
    assert (once.status, again.status) == (Status.DEAD, Status.PENDING)
    assert "worker was lost" in once.last_error


def test_results_are_in_the_project_s_own_backend_once_they_are_committed(tmp_path, monkeypatch):
    folder = tmp_path / "results"
    folder.mkdir()
    theirs = FilesystemBackend(app=app, url=f"file://{folder}")
    for task in (give_up_in_the_body, fail_plainly):
        monkeypatch.setattr(type(task), "backend", theirs)
        monkeypatch.setattr(task, "ignore_result", False)
    first, second = give_up_in_the_body.delay(), fail_plainly.delay()
    drain()
    assert theirs.get_state(second.id) == states.FAILURE
    assert isinstance(theirs.get_result(second.id), OSError)
    assert theirs.get_state(first.id) == states.RETRY
    pass_time(seconds=6)
    drain()
    assert (theirs.get_state(first.id), theirs.get_result(first.id)) == (states.SUCCESS, "given up")
