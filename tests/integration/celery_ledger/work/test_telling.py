"""Celery's signals, hooks and ``self.request`` treat each row as if it were a separate message."""

import pytest
from celery import current_task, shared_task, signals

from celery_ledger.errors import PermanentError
from celery_ledger.models import DurableTask
from celery_ledger.tasks import run_mixed
from celery_ledger.testing import drain
from store.models import Collection
from tests import probe
from tests.by_hand import make_due, publish, take
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
#: What the hooks below were told, in order.
hooks: list[tuple[object, ...]] = []


class Hooked(Task):
    abstract = True

    def before_start(self, task_id, args, kwargs):
        hooks.append(("before_start", task_id, args, kwargs, self.request.id, current_task.name))

    def on_success(self, retval, task_id, args, kwargs):
        hooks.append(("on_success", task_id, retval, committed(args)))

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        hooks.append(("on_failure", task_id, repr(exc), "Traceback" in einfo.traceback))

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        hooks.append(("on_retry", task_id, repr(exc), self.request.retries))

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        hooks.append(("after_return", task_id, status))


def committed(args):
    return DurableTask.objects.get(args=args).status == "succeeded"


@shared_task(name="tests.hooked", base=Hooked, max_retries=1)
def hooked(title):
    if title == "bad":
        raise RuntimeError("no")
    return title.upper()


@shared_task(name="tests.hooked_outside", base=Hooked, max_retries=1, transactional=False)
def hooked_outside(title):
    return hooked.run(title)


@shared_task(name="tests.hooked_batch", base=Hooked, max_retries=1, batch_size=10)
def hooked_batch(titles):
    for title in titles:
        hooked.run(title)


@pytest.fixture(autouse=True)
def told():
    """What the signals were told, in order: name of the signal, id, and what it says."""
    heard = []

    def listen(name, *what):
        def hear(sender, **told):
            id = told.get("task_id") or (told["request"].id if "request" in told else sender.request.id)
            heard.append((name, id, *(repr(told[each]) for each in what)))

        getattr(signals, name).connect(hear, weak=False, dispatch_uid=f"tests.{name}")

    listen("task_prerun", "args")
    listen("task_success", "result")
    listen("task_retry", "reason")
    listen("task_failure", "exception")
    listen("task_postrun", "state")
    hooks.clear()
    yield heard
    for name in ("task_prerun", "task_success", "task_retry", "task_failure", "task_postrun"):
        getattr(signals, name).disconnect(dispatch_uid=f"tests.{name}")


@pytest.mark.parametrize("task", [hooked, hooked_outside], ids=["inside", "outside"])
def test_a_task_that_succeeds_is_told_of_when_that_is_committed(told, task):
    id = task.delay("good").id
    drain()
    assert told == [
        ("task_prerun", id, "['good']"),
        ("task_success", id, "'GOOD'"),
        ("task_postrun", id, "'SUCCESS'"),
    ]
    assert hooks == [
        ("before_start", id, ["good"], {}, id, task.name),
        ("on_success", id, "GOOD", True),
        ("after_return", id, "SUCCESS"),
    ]


def test_receivers_are_told_how_long_it_took_as_by_celery_5_7():
    heard = []
    hear = lambda runtime, **_: heard.append(runtime)  # noqa: E731 - named, or it would be forgotten at once
    signals.task_success.connect(hear)
    hooked.delay("good")
    drain()
    assert [runtime >= 0 for runtime in heard] == [True]


@pytest.mark.fault("F81")
@pytest.mark.parametrize("task", [hooked, hooked_outside, hooked_batch], ids=["inside", "outside", "batch"])
def test_a_task_that_fails_is_told_of_as_retried_and_then_as_failed(told, task):
    id = task.delay("bad").id
    drain()
    make_due()
    drain()
    assert told == [
        ("task_prerun", id, "['bad']"),
        ("task_retry", id, "RuntimeError('no')"),
        ("task_postrun", id, "'RETRY'"),
        ("task_prerun", id, "['bad']"),
        ("task_failure", id, "RuntimeError('no')"),
        ("task_postrun", id, "'FAILURE'"),
    ]
    assert [hook for hook in hooks if hook[0] != "before_start"] == [
        ("on_retry", id, "RuntimeError('no')", 0),
        ("on_failure", id, "RuntimeError('no')", True),
        ("after_return", id, "FAILURE"),
    ]


@pytest.mark.fault("F81")
def test_of_a_batch_each_row_is_told_of_once_though_one_is_bad(told):
    ids = {title: hooked_batch.delay(title).id for title in ("a", "bad", "c")}
    take(hooked_batch, publish())
    assert sorted(each[:2] for each in told if each[0] == "task_prerun") == sorted(
        ("task_prerun", id) for id in ids.values()
    )
    ends = {each[1]: each[2] for each in told if each[0] == "task_postrun"}
    assert ends == {ids["a"]: "'SUCCESS'", ids["bad"]: "'RETRY'", ids["c"]: "'SUCCESS'"}
    assert {each[1] for each in told if each[0] == "task_success"} == {ids["a"], ids["c"]}
    assert len(told) == 3 * 3


def test_a_message_of_several_tasks_is_told_of_by_its_rows_alone(told):
    ids = {probe.make_collections.delay("a").id, hooked_batch.delay("b").id}
    take(run_mixed, publish())
    assert {each[1] for each in told} == ids
    assert len(told) == 2 * 3


def test_a_body_that_asks_for_a_retry_is_told_of_as_retried_with_its_cause(told):
    id = probe.come_back.delay(60.0).id
    drain()
    assert [each[:2] for each in told] == [("task_prerun", id), ("task_retry", id), ("task_postrun", id)]
    assert "not yet" in told[1][2]


def test_a_dead_letter_at_the_first_attempt_is_a_failure(told):
    probe.failing["garden"] = PermanentError("never")
    id = probe.make_collection.delay("garden").id
    drain()
    assert told[1:] == [("task_failure", id, "PermanentError('never')"), ("task_postrun", id, "'FAILURE'")]


def test_a_before_start_that_fails_is_an_error_of_the_body(told, monkeypatch):
    def refuse(self, task_id, args, kwargs):
        raise RuntimeError("not now")

    monkeypatch.setattr(Hooked, "before_start", refuse)
    hooked.delay("good")
    drain()
    assert DurableTask.objects.get().last_error == "RuntimeError: not now"
    assert [each[0] for each in told] == ["task_prerun", "task_retry", "task_postrun"]


def test_a_hook_that_fails_afterwards_changes_nothing(told, monkeypatch, caplog):
    def fail(self, retval, task_id, args, kwargs):
        raise RuntimeError("a hook's mistake")

    monkeypatch.setattr(Hooked, "on_success", fail)
    hooked.delay("good")
    drain()
    assert DurableTask.objects.get().status == "succeeded"
    assert told[-1][0] == "task_postrun"
    assert "A hook of tests.hooked" in caplog.text


def test_a_body_sees_its_row_as_its_request(monkeypatch):
    seen = []
    monkeypatch.setattr(
        probe.tell_retries, "run", lambda: seen.append((probe.tell_retries.request, current_task.request.id))
    )
    id = probe.tell_retries.delay().id
    drain()
    ((request, current),) = seen
    assert (request.id, request.root_id, current, request.retries, request.args) == (id, id, id, 0, [])
    assert (request.called_directly, request.is_eager) == (False, False)
    assert request.hostname
    assert not Collection.objects.exists()
