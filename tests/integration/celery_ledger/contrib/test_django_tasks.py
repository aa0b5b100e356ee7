"""Django's own tasks, in the ledger: by the backport here, and by Django's own where `make matrix` has one."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from celery_ledger.contrib.django_tasks import LedgerBackend, framework, priorities, task
from celery_ledger.desk import cancelling
from celery_ledger.models import DurableTask, Result
from celery_ledger.rows import ledger
from celery_ledger.testing import drain, pass_time
from store.models import Collection
from worker.celery import app

if framework.NAME == "django.tasks":
    from django.tasks import task as djangos_task
    from django.tasks import task_backends
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    from django_tasks import task as djangos_task
    from django_tasks import task_backends
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
    from django_tasks.signals import task_enqueued, task_finished, task_started

pytestmark = pytest.mark.django_db(transaction=True)
#: What bodies saw, in order.
seen = []


@pytest.fixture(autouse=True)
def _nothing_seen():
    seen.clear()


@djangos_task
def double(number):
    return number * 2


@task(takes_context=True)
def say_who(context, *words):
    seen.append((context.attempt, context.task_result.id, context.task_result.worker_ids))
    if context.attempt < 2 and "again" in words:
        raise LookupError("not yet")
    return list(words)


@task
async def await_it(number):
    await asyncio.sleep(0)
    collection = await Collection.objects.acreate(title=f"awaited {number}")
    return collection.title


@task(transactional=True)
async def await_and_fail(title):
    await Collection.objects.acreate(title=title)
    raise LookupError


@task(transactional=True)
def make_and_fail(title):
    Collection.objects.create(title=title)
    raise LookupError("two\nlines")


@task(transactional=True, batch_size=10)
def take_many(numbers):
    seen.append(numbers)


@task(max_retries=2)
def never():
    raise framework.base.TaskResultStatus  # No error at all: a TypeError.


@task(backend="brisk")
def once_more():
    raise LookupError


@task
def return_a_set():
    return {1, 2}


@task(priority=-100)
def note(word):
    seen.append(word)


@task(queue_name="email", unique_key=lambda number: f"only:{number}", unique_for="pending")
def only_once(number):
    seen.append(number)


def test_it_supports_all_that_there_is():
    backend = task_backends["default"]
    assert isinstance(backend, LedgerBackend)
    for what in ("defer", "async_task", "get_result", "priority"):
        assert getattr(backend, f"supports_{what}")


def test_a_call_is_a_row_of_the_callers_transaction():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        rolled_back = double.enqueue(1)
        1 / 0  # noqa: B018
    with transaction.atomic():
        committed = double.enqueue(21)
        assert DurableTask.objects.filter(pk=committed.id).exists()
    drain()
    with pytest.raises(TaskResultDoesNotExist):
        double.get_result(rolled_back.id)
    assert double.get_result(committed.id).return_value == 42


def test_a_call_s_result_is_the_one_that_is_read_of_it():
    result = double.enqueue(21)
    assert double.get_result(result.id) == result


def test_a_result_says_what_became_of_a_call():
    result = say_who.enqueue("a", "b")
    assert (result.status, result.attempts, result.is_finished) == ("READY", 0, False)
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    drain()
    result.refresh()
    assert (result.status, result.attempts, result.errors) == ("SUCCESSFUL", 1, [])
    assert result.return_value == ["a", "b"]
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert seen == [(1, result.id, result.worker_ids)]
    assert (result.args, result.kwargs, result.task.func) == (["a", "b"], {}, say_who.func)


def test_what_fails_is_run_once_unless_it_says_otherwise():
    result = make_and_fail.enqueue("garden")
    drain()
    result.refresh()
    assert (result.status, result.attempts) == ("FAILED", 1)
    [error] = result.errors
    assert error.exception_class is LookupError
    assert error.traceback.endswith("LookupError: two\nlines\n")
    assert not Collection.objects.exists()
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


@pytest.mark.parametrize(("which", "attempts"), [(never, 3), (once_more, 2)], ids=["by the task", "by OPTIONS"])
def test_retries(which, attempts):
    result = which.enqueue()
    for _ in range(5):
        drain()
        pass_time(hours=1)
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == ("FAILED", attempts, attempts)
    assert result.started_at < result.last_attempted_at < result.finished_at


def test_the_context_counts_attempts():
    result = say_who.using(backend="brisk", queue_name="default").enqueue("again")
    assert result.backend == "brisk"
    drain()
    assert [attempt for attempt, *_ in seen] == [1]
    assert task_backends["brisk"].get_result(result.id).status == "FAILED"  # Its options are those of its declaration.


def test_async_tasks_run_and_roll_back():
    done, failed = await_it.enqueue(7), await_and_fail.enqueue("not to be")
    drain()
    done.refresh()
    failed.refresh()
    assert (done.return_value, failed.status) == ("awaited 7", "FAILED")
    assert list(Collection.objects.values_list("title", flat=True)) == ["awaited 7"]


def test_async_callers():
    async def call():
        result = await double.aenqueue(4)
        return await double.aget_result(result.id)

    result = asyncio.run(call())
    assert result.status == "READY"
    drain()
    asyncio.run(result.arefresh())
    assert result.return_value == 8


def test_a_batch_is_one_call_of_the_body():
    results = [take_many.enqueue(number) for number in range(3)]
    drain()
    assert [sorted(batch) for batch in seen] == [[0, 1, 2]]
    for result in results:
        result.refresh()
    assert {(result.status, result.attempts, result.return_value) for result in results} == {("SUCCESSFUL", 1, None)}
    with pytest.raises(TypeError, match="one positional argument"):
        take_many.enqueue(1, 2)


def test_what_cannot_be_kept_fails_where_it_is():
    with pytest.raises(TypeError):
        double.enqueue(object())
    result = return_a_set.enqueue()
    drain()
    assert return_a_set.get_result(result.id).errors[0].exception_class is TypeError


def test_priorities_keep_their_order():
    assert [priorities.of_the_row(number) for number in (100, 81, 80, 1, 0, -1, -25, -26, -100)] == [
        *(0, 0, 1, 4, 5, 6, 6, 7, 9)
    ]
    for priority in (0, 100, -50, 50, -100):
        note.using(priority=priority).enqueue(priority)
    rows = DurableTask.objects.order_by("priority")
    assert [row.args for row in rows] == [[100], [50], [0], [-50], [-100]]
    assert {note.get_result(str(row.id)).task.priority for row in rows} == {100, 50, 0, -50, -100}
    assert [ledger.claim({"default": 9}, lease=60, limit=1)[0].id for _ in rows] == [row.id for row in rows]


def test_an_option_that_no_task_has_is_refused_where_it_is_declared():
    for option in ("colour", "run_after"):
        with pytest.raises(TypeError, match=option):
            task(double.func, **{option: None})


def test_run_after_is_kept():
    at = timezone.now() + timedelta(days=40)
    result = double.using(run_after=at).enqueue(3)
    drain()
    result = double.get_result(result.id)
    assert (result.status, result.task.run_after) == ("READY", at)
    pass_time(days=41)
    drain()
    result.refresh()
    assert result.return_value == 6


def test_queues_are_celerys_and_default_is_what_celery_calls_so():
    calls = {name: double.using(queue_name=name).enqueue(1) for name in ("default", "email")}
    rows = {name: DurableTask.objects.get(pk=call.id).queue for name, call in calls.items()}
    assert rows == {name: name for name in calls}
    assert double.get_result(calls["email"].id).task.queue_name == "email"
    with pytest.raises(InvalidTask, match="nobodys"):
        double.using(queue_name="nobodys")
    with pytest.raises(InvalidTask, match="Celery has no queue 'strange'"):
        double.using(queue_name="strange").enqueue(1)
    assert [found.id for found in task_backends["default"].check()] == ["celery_ledger.W026"]
    queues, app.amqp.queues = app.amqp.queues, {}
    try:
        assert task_backends["default"]._queue(app, "default") == app.conf.task_default_queue
    finally:
        app.amqp.queues = queues


def test_one_row_for_many_calls():
    assert len({only_once.enqueue(5).id for _ in range(3)}) == 1
    drain()
    assert seen == [5]


def test_signals_are_sent_with_the_result_and_one_that_fails_changes_nothing():
    heard = []

    def hear(name):
        def receiver(sender, task_result, **kwargs):
            assert sender is LedgerBackend
            heard.append((name, task_result.id, task_result.status, DurableTask.objects.get(pk=task_result.id).status))
            raise OSError

        return receiver

    receivers = {signal: hear(name) for name, signal in SIGNALS.items()}
    for signal, receiver in receivers.items():
        signal.connect(receiver)
    try:
        done, failed = double.enqueue(2), make_and_fail.enqueue("shed")
        drain()
    finally:
        for signal, receiver in receivers.items():
            signal.disconnect(receiver)
    assert [said for said in heard if said[1] == done.id] == [
        ("enqueued", done.id, "READY", "pending"),
        ("started", done.id, "RUNNING", "running"),
        ("finished", done.id, "SUCCESSFUL", "succeeded"),
    ]
    assert [said[0::2] for said in heard if said[1] == failed.id] == [
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("finished", "FAILED"),
    ]
    assert [said[3] for said in heard if said[1] == failed.id][-1] == "dead"
    assert double.get_result(done.id).return_value == 4


SIGNALS = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}


def test_a_cancelled_call_has_failed():
    result = double.enqueue(1)
    cancelling.cancel([result.id], reason="not wanted")
    result.refresh()
    assert (result.status, result.attempts) == ("FAILED", 0)
    assert result.errors[0].exception_class.__name__ == "TaskRevokedError"
    assert "not wanted" in result.errors[0].traceback


def test_results_of_others_are_not_there():
    celerys = app.tasks["tests.make_collection"].delay("garden")
    for unknown in (str(uuid4()), "nonsense", celerys.id):
        with pytest.raises(TaskResultDoesNotExist):
            double.get_result(unknown)
    result = double.enqueue(1)
    with pytest.raises(TaskResultMismatch):
        note.get_result(result.id)
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["brisk"].get_result(result.id)


def test_results_are_in_the_ledger_whatever_celerys_backend_is(settings):
    assert settings.CELERY_RESULT_BACKEND == "django-db"
    result = double.enqueue(1)
    drain()
    assert Result.objects.filter(pk=result.id).exists()


def in_a_function():
    def inner():
        pass

    return inner


def take_one(context, number):
    pass


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({"batch_size": 5}, take_one),
        ({"batch_size": 5, "transactional": True, "takes_context": True}, take_one),
        ({"priority": 101}, take_one),
        ({}, in_a_function()),
    ],
)
def test_what_does_not_go_together_is_refused_when_it_is_declared(options, function):
    with pytest.raises(InvalidTask):
        task(function, **options) if not options else task(**options)(function)


def test_eager_calls_are_run_at_once(settings):
    app.conf.task_always_eager = True
    try:
        assert double.enqueue(3).return_value == 6
        assert make_and_fail.enqueue("hut").status == "FAILED"
    finally:
        app.conf.task_always_eager = False


def test_a_backend_that_would_not_run_its_tasks_is_named():
    strange = {"default": {"BACKEND": "celery_ledger.contrib.django_tasks.LedgerBackend", "OPTIONS": {"retry": 1}}}
    with override_settings(TASKS=strange):
        [found] = task_backends["default"].check()
    assert found.id == "celery_ledger.E024"
    assert not [message for message in run_checks() if message.id == "celery_ledger.E025"]
