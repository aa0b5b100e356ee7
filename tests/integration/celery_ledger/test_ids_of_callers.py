"""A caller may choose any text as the id of a call, and find its result under it, in any result backend."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from celery import shared_task, signals
from celery.backends.filesystem import FilesystemBackend
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from django.test import modify_settings
from django_celery_results.backends import DatabaseBackend
from django_celery_results.models import TaskResult

import celery_ledger
from celery_ledger.backend import LedgerBackend
from celery_ledger.desk import pruner
from celery_ledger.ids import row_id
from celery_ledger.models import DurableTask
from celery_ledger.rows import results
from celery_ledger.testing import drain
from tests.processes import wait_until
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
#: Ids that people give: of what it is about, and UUIDs in other forms than a row has them.
GIVEN = [
    "order-42",
    "mails for ö@example.com",
    "68571F11-B1D6-4576-8CF2-017D2486C65A",
    "68571f11b1d645768cf2017d2486c65a",
]
seen = []


@shared_task(name="tests.who_am_i", base=Task, bind=True)
def who_am_i(self, fails=False):
    seen.append((self.request.id, self.request.root_id, self.request.correlation_id))
    if fails:
        raise celery_ledger.PermanentError("no")
    return self.request.id


@pytest.fixture(params=["django-db", "own", "files"])
def kept_by(request, monkeypatch, tmp_path):
    """Have results kept by each kind of backend."""
    seen.clear()
    absent = {"remove": "django_celery_results"} if request.param != "django-db" else {}
    with modify_settings(INSTALLED_APPS=absent):
        chosen = {
            "django-db": lambda: DatabaseBackend(app=app),
            "own": lambda: LedgerBackend(app=app),
            "files": lambda: FilesystemBackend(app=app, url=f"file://{tmp_path}"),
        }[request.param]()
        monkeypatch.setattr(app, "_backend_cache", chosen)
        yield request.param


@pytest.mark.parametrize("given", GIVEN)
def test_a_call_has_the_id_that_its_caller_gave_it_and_is_found_by_it(kept_by, given):
    call = who_am_i.apply_async(task_id=given)
    assert call.id == given
    drain()
    assert seen == [(given, given, given)]
    assert AsyncResult(given).get(timeout=5) == given
    assert DurableTask.objects.get().id == row_id(given)


def test_its_failure_its_revocation_and_its_states_are_found_by_it(kept_by):
    who_am_i.apply_async((True,), task_id="order-1")
    drain()
    with pytest.raises(celery_ledger.PermanentError):
        AsyncResult("order-1").get(timeout=5)
    who_am_i.apply_async(task_id="order-2", countdown=60)
    AsyncResult("order-2").revoke()
    wait_until("it is told", lambda: AsyncResult("order-2").state == "REVOKED")
    with pytest.raises(TaskRevokedError):
        AsyncResult("order-2").get(timeout=5)
    who_am_i.apply_async(task_id="order-3", countdown=60)
    who_am_i.update_state("order-3", "PACKED", {"by": "nobody"})
    assert (AsyncResult("order-3").state, AsyncResult("order-3").info) == ("PACKED", {"by": "nobody"})
    assert celery_ledger.cancel("order-3", reason="no longer wanted") == 1


def test_one_that_the_ledger_has_is_refused_also_as_a_uuid():
    who_am_i.apply_async(task_id="order-42")
    for again in ("order-42", str(row_id("order-42"))):
        with pytest.raises(ValueError, match="has a task"):
            who_am_i.apply_async(task_id=again)
    assert row_id("order-42") != row_id("order-43")


@pytest.mark.parametrize("given", ["", "x" * 256, "half a \ud83d", "nul \0"], ids=["none", "long", "half", "nul"])
def test_what_no_backend_keeps_is_refused(given):
    with pytest.raises(ValueError, match="a task_id has 1 to 255 characters"):
        who_am_i.apply_async(task_id=given)


def test_one_that_stands_for_others_has_the_id_of_its_row():
    with pytest.raises(ValueError, match="with a unique_key a task_id is a UUID"):
        who_am_i.apply_async(task_id="order-42", unique_key="one")
    same = str(uuid4())
    who_am_i.apply_async(task_id=same, unique_key="one")
    assert who_am_i.apply_async(unique_key="one").id == same


def test_what_is_called_from_it_knows_it_and_so_do_those_who_follow_calls():
    told = []

    def note(sender, headers, **_):
        told.append((headers["id"], headers["root_id"], headers["parent_id"]))

    @app.task(name="tests.call_who", base=Task)
    def call_who():
        who_am_i.delay()

    signals.before_task_publish.connect(note)
    try:
        call_who.apply_async(task_id="order-42")
        drain()
    finally:
        signals.before_task_publish.disconnect(note)
        app.tasks.pop("tests.call_who")
    assert [told[0][0], told[1][1:]] == ["order-42", ("order-42", "order-42")]
    assert UUID(told[1][0])


def test_its_result_in_django_celery_results_is_audited_and_pruned_with_its_row():
    who_am_i.apply_async(task_id="order-42")
    drain()
    row = DurableTask.objects.get()
    assert results.of([row.id]).get().task_id == "order-42"
    TaskResult.objects.update(status="FAILURE")
    assert list(results.untrue()) == [f"the result of {row.id} says FAILURE, and the ledger that it succeeded"]
    DurableTask.objects.update(completed_at="2010-12-01T08:00Z")
    assert sum(pruner.portions(older_than=timedelta(days=7))) == 1
    assert not TaskResult.objects.exists()
