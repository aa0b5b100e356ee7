"""``AsyncResult`` in a project without a result backend: what the ledger knows, once it is committed."""

import threading
import time
from datetime import timedelta

import pytest
from celery import exceptions, shared_task, states
from celery.backends.base import DisabledBackend
from celery.result import AsyncResult, ResultSet
from django.apps import apps
from django.db import connection, connections, transaction
from django.test import modify_settings
from django.utils import timezone
from django_celery_results.backends import DatabaseBackend
from django_celery_results.models import TaskResult

from celery_ledger.backend import LedgerBackend, backend
from celery_ledger.desk import cancelling, dead_letters, pruner
from celery_ledger.models import DurableTask, Result
from celery_ledger.testing import drain, pass_time
from tests.by_hand import publish
from tests.processes import wait_until
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
only_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer and no NOTIFY")
#: What others could read while a body ran.
read = []


class StrangeError(Exception):
    pass


@shared_task(name="tests.answer", base=Task)
def answer(value):
    return value


@shared_task(name="tests.answer_outside", base=Task, transactional=False)
def answer_outside(value):
    return value


@shared_task(name="tests.answer_nobody", base=Task, ignore_result=True)
def answer_nobody(value):
    return value


@shared_task(name="tests.say_no", base=Task, max_retries=1, retry_backoff=1, retry_jitter=False)
def say_no(*words):
    raise StrangeError(*words)


@shared_task(name="tests.say_how_far", base=Task, bind=True, track_started=True)
def say_how_far(self):
    look(self.request.id)
    self.update_state(state="PROGRESS", meta={"done": 1})
    look(self.request.id)


def look(id):
    """Read what is known of a task, as another process does."""

    def ask():
        try:
            handle = AsyncResult(id)
            read.append((handle.state, handle.result))
        finally:
            connection.close()

    in_a_thread(ask).join(20)


def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


@pytest.fixture
def own(monkeypatch):
    """No result backend, and no django-celery-results."""
    with modify_settings(INSTALLED_APPS={"remove": "django_celery_results"}):
        chosen = backend(app=app)
        monkeypatch.setattr(app, "_backend_cache", chosen)
        yield chosen


def test_what_a_task_returned_is_there_with_its_effects(own):
    calls = [answer.delay({"a": [1, None]}), answer_outside.delay("there"), answer.delay(None)]
    assert [(call.state, call.result, call.ready()) for call in calls] == [("PENDING", None, False)] * 3
    with pytest.raises(exceptions.TimeoutError):
        calls[0].get(timeout=0.05)
    drain()
    assert ResultSet(calls).get(timeout=5) == [{"a": [1, None]}, "there", None]
    found = AsyncResult(calls[0].id)
    assert (found.status, found.successful(), found.failed(), found.info) == ("SUCCESS", True, False, {"a": [1, None]})
    assert (found.name, found.args, found.kwargs, found.retries) == ("tests.answer", [{"a": [1, None]}], {}, 0)
    assert timezone.now() - found.date_done < timedelta(minutes=1)
    assert Result.objects.count() == 2  # Nothing is stored of nothing.


def test_an_error_comes_back_as_what_it_was(own):
    call = say_no.delay("of", 2)
    drain()
    assert (AsyncResult(call.id).state, repr(AsyncResult(call.id).result)) == ("RETRY", "StrangeError('of', 2)")
    pass_time(seconds=2)
    drain()
    with pytest.raises(StrangeError) as caught:
        call.get(timeout=5)
    assert caught.value.args == ("of", 2)
    assert call.failed()
    assert "raise StrangeError" in call.traceback
    Result.objects.all().delete()
    assert repr(AsyncResult(call.id).result) == """StrangeError("('of', 2)")"""  # From the dead letter alone.


def test_what_was_cancelled_given_up_forgotten_or_is_too_old_says_so(own):
    cancelled, given_up, forgotten, old = answer.delay(1), say_no.delay(), answer.delay(2), answer.delay(3)
    cancelling.cancel([cancelled.id], reason="not needed")
    drain()
    pass_time(seconds=2)
    drain()
    dead_letters.discard([DurableTask.objects.get(name="tests.say_no").id], reason="nobody wants it")
    AsyncResult(forgotten.id).forget()
    DurableTask.objects.filter(id=old.id).update(completed_at=timezone.now() - timedelta(days=8))
    found = [AsyncResult(call.id).state for call in (cancelled, given_up, forgotten, old)]
    assert found == ["REVOKED", "FAILURE", "PENDING", "PENDING"]
    with pytest.raises(exceptions.TaskRevokedError, match="not needed"):
        AsyncResult(cancelled.id).get(timeout=5)
    assert AsyncResult("nobody's").state == "PENDING"


@shared_task(name="tests.say_what_came_of_it", base=Task, bind=True, transactional=False)
def say_what_came_of_it(self, state, meta):
    self.update_state(state=state, meta=StrangeError(meta) if state == "FAILURE" else meta)
    raise exceptions.Ignore


def test_what_a_task_said_of_its_end_stays_where_it_then_ends_by_ignore(own):
    failure, own_word, nothing = (
        say_what_came_of_it.delay("FAILURE", "no more"),
        say_what_came_of_it.delay("SOLD_OUT", {"left": 0}),
        answer.delay(None),
    )
    drain()
    assert repr(failure.result) == "StrangeError('no more')"
    assert [call.state for call in (failure, own_word, nothing)] == ["FAILURE", "SOLD_OUT", "SUCCESS"]
    assert own_word.info == {"left": 0}
    assert DurableTask.objects.get(id=failure.id).status == "succeeded"


def test_who_ignores_results_has_none(own):
    call = answer_nobody.delay("secret")
    drain()
    assert call.get(timeout=5) is None
    assert (call.state, call.result) == ("SUCCESS", None)
    assert not Result.objects.exists()


def test_results_go_with_their_tasks(own):
    answer.delay(1)
    drain()
    assert Result.objects.count() == 1
    assert pruner.prune(older_than=timedelta(0)) == 1
    assert not Result.objects.exists()


@only_postgresql
@pytest.mark.parametrize("theirs", [False, True])
def test_what_a_body_says_is_read_while_its_transaction_is_open(theirs, request, monkeypatch):
    if theirs:
        monkeypatch.setattr(app, "_backend_cache", DatabaseBackend(app=app))
    else:
        request.getfixturevalue("own")
    read.clear()
    call = say_how_far.delay()
    drain()
    [(first, began), second] = read
    assert (first, set(began)) == ("STARTED", {"pid", "hostname"})
    assert second == ("PROGRESS", {"done": 1})
    assert (AsyncResult(call.id).state, AsyncResult(call.id).result) == ("SUCCESS", None)


def test_what_is_said_too_late_changes_nothing(own):
    call = answer.delay("the end")
    drain()
    say_how_far.update_state(task_id=call.id, state="PROGRESS", meta={})
    assert AsyncResult(call.id).get(timeout=5) == "the end"
    with pytest.raises(ValueError, match="task_id"):
        say_how_far.update_state(state="PROGRESS")


def waiting_for(call, told, **options):
    """Wait for a task in a thread of its own; ``told`` is given its answer or error, and when that was there."""

    def wait():
        try:
            answer = AsyncResult(call.id).get(timeout=30, disable_sync_subtasks=False, propagate=False, **options)
            told.append((answer, time.monotonic()))
        finally:
            connection.close()

    return in_a_thread(wait)


def wait_until_somebody_listens():
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT activity.pid FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)"
                " WHERE locktype = 'advisory' AND classid = 4915 AND activity.state = 'idle'"
            )
            if found := cursor.fetchall():
                return found[0][0]
        time.sleep(0.01)
    raise AssertionError("Nobody listens.")


@only_postgresql
@pytest.mark.fault("F131")
def test_f131_who_waits_is_told_by_the_commit_and_looks_again_where_its_connection_was_cut(own, monkeypatch):
    monkeypatch.setattr("celery_ledger.waiting.LOOK_AGAIN", 60.0)
    told = []
    call = answer.delay("now")
    waiter = waiting_for(call, told, interval=60)
    wait_until_somebody_listens()
    drain()
    done = time.monotonic()
    waiter.join(20)
    assert told[0][0] == "now"
    assert told[0][1] - done < 1  # Without the notification it would be a minute.

    call = answer.delay("cut")
    waiter = waiting_for(call, told, interval=60)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [wait_until_somebody_listens()])
    wait_until_somebody_listens()
    drain()
    waiter.join(20)
    assert told[1][0] == "cut"


@only_postgresql
def test_who_waits_for_a_row_of_django_celery_results_is_told_by_the_commit_too(monkeypatch):
    monkeypatch.setattr("celery_ledger.waiting.LOOK_AGAIN", 60.0)
    told = []
    for task, options in ((answer, {"task_id": "as they call it"}), (answer_outside, {})):
        call = task.apply_async(("now",), **options)
        waiter = waiting_for(call, told, interval=60)
        wait_until_somebody_listens()
        drain()
        done = time.monotonic()
        waiter.join(20)
        assert TaskResult.objects.get(task_id=call.id).status == "SUCCESS"
        answered, at = told.pop()
        assert answered == "now"
        assert at - done < 1

    call = say_no.delay("of", 2)
    waiter = waiting_for(call, told, interval=60)
    wait_until_somebody_listens()
    drain()
    pass_time(seconds=2)
    drain()
    waiter.join(20)
    assert repr(told[0][0]) == "StrangeError('of', 2)"


@only_postgresql
def test_who_waits_for_what_has_no_row_looks_at_celery_s_interval(monkeypatch):
    told = []
    plain = AsyncResult("of a plain task")
    waiting_for(plain, told, interval=0.05)
    wait_until_somebody_listens()
    app.backend.store_result(plain.id, "plain", states.SUCCESS)
    wait_until("its caller has it", lambda: told, seconds=5)
    assert told[0][0] == "plain"


@only_postgresql
def test_who_waits_within_a_transaction_listens_in_another_connection(own):
    call = answer.delay("outside")

    def run():
        try:
            wait_until_somebody_listens()
            drain()
        finally:
            connection.close()

    runner = in_a_thread(run)
    with transaction.atomic():
        assert AsyncResult(call.id).get(timeout=20) == "outside"
    runner.join(20)


@only_postgresql
def test_who_has_waited_listens_no_more_and_an_answer_is_one_query(own, django_assert_num_queries):
    call = answer.delay("waited for")

    def run():
        try:
            wait_until_somebody_listens()
            drain()
        finally:
            connection.close()

    runner = in_a_thread(run)
    assert AsyncResult(call.id).get(timeout=20) == "waited for"
    runner.join(20)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM pg_listening_channels()),"
            " (SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND classid = 4915 AND datname = current_database())"
        )
        assert cursor.fetchone() == (0, 0)
    with django_assert_num_queries(1):
        assert AsyncResult(call.id).get(timeout=20) == "waited for"


@only_postgresql
def test_nobody_is_notified_where_nobody_waits(own):
    with connection.cursor() as cursor:
        cursor.execute("LISTEN celery_ledger_results")
    try:
        for _ in range(3):
            answer.delay("nobody waits")
        drain()
        assert list(connection.connection.notifies(timeout=0.2)) == []
    finally:
        connection.close()


def test_a_backend_of_the_project_s_own_is_told_what_was_revoked(monkeypatch, tmp_path):
    told, opened = [], []

    class Theirs(LedgerBackend):
        is_the_ledgers = False

        def store_result(self, task_id, result, state, *args, request=None, **kwargs):
            told.append((task_id, state, str(result), request.args, DurableTask.objects.get(id=task_id).status))
            opened.append(connections["default"])

    with modify_settings(INSTALLED_APPS={"remove": "django_celery_results"}):
        monkeypatch.setattr(app, "_backend_cache", Theirs(app=app))
        call = answer.delay(1)
        publish()
        with transaction.atomic():
            cancelling.cancel([call.id], reason="not needed")
            assert not told
        wait_until("it is told, and closes its connection", lambda: opened and opened[0].connection is None)
    assert told == [(call.id, states.REVOKED, "not needed", [1], "cancelled")]


def test_a_plain_task_has_no_results_here_and_makes_no_backend_to_say_so_each_time(own):
    @app.task(name="tests.plain_answer", base=Task, durable=False)
    def plain(value):
        return value

    try:
        assert isinstance(plain.backend, DisabledBackend)
        assert plain.backend is plain.backend
    finally:
        app.tasks.pop(plain.name)


def test_with_django_celery_results_its_backend_is_the_default():
    assert apps.is_installed("django_celery_results")
    assert isinstance(backend(app=app), DatabaseBackend)
