"""Celery's usual idioms work, or are refused with an error that names the alternative; nothing is ignored silently."""

from datetime import UTC, datetime, timedelta

import celery
import pytest
from celery.app import routes, trace
from celery.app.annotations import prepare
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from kombu import Queue

from celery_ledger.desk import dead_letters
from celery_ledger.models import PRIORITIES, DurableTask
from celery_ledger.relay import expiring
from celery_ledger.retries import PATIENT, POLICIES
from celery_ledger.rows import ledger
from celery_ledger.testing import drain
from store.models import Collection
from tests import probe
from tests.processes import wait_until
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


def make_due():
    DurableTask.objects.filter(status=Status.PENDING).update(available_at="2010-12-01T08:00Z")


class TestSendTask:
    @pytest.mark.fault("F71")
    def test_f71_a_task_that_is_sent_by_name_is_a_row_of_the_transaction(self):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            app.send_task("tests.make_collection", ["never"])
            1 / 0  # noqa: B018
        assert not DurableTask.objects.exists()
        handle = app.send_task("tests.make_collection", ["garden"], queue="email", priority=3)
        task = DurableTask.objects.get()
        assert (str(task.id), task.queue, task.priority) == (handle.id, "email", 3)
        drain()
        assert AsyncResult(handle.id).get(timeout=1) == "garden"

    @pytest.mark.fault("F71")
    def test_f71_a_task_that_nobody_knows_here_has_its_row_for_those_who_do(self):
        handle = app.send_task("store.tasks.of_another_release", [7], {"way": "fast"}, countdown=60)
        task = DurableTask.objects.get()
        assert (str(task.id), task.name, task.queue) == (handle.id, "store.tasks.of_another_release", "inventory")
        assert (task.args, task.kwargs) == ([7], {"way": "fast"})

    def test_a_signature_of_a_task_that_nobody_knows_here_has_its_row_too(self):
        app.signature("tests.of_another_release", args=[7]).delay()
        assert DurableTask.objects.get().args == [7]

    def test_a_name_that_no_row_can_hold_is_refused(self):
        for name in ("", "x" * 256, "half a \ud83d"):
            with pytest.raises(ValueError, match="A task's name"):
                app.send_task(name)

    def test_a_call_by_name_is_looked_at_like_any_other(self):
        with pytest.raises(TypeError, match="make_collection must be JSON"):
            app.send_task("tests.make_collection", [object()])
        with pytest.raises(TypeError, match="title"):
            app.send_task("tests.make_collection")


class TestRetry:
    def test_new_arguments_are_what_the_next_attempt_is_given(self):
        handle = probe.retry_as_told.delay({"args": [{"args": [{}], "kwargs": {"round": 3}}, 2]})
        for _ in range(3):
            make_due()
            drain()
        assert probe.seen == [1, 2, 3]
        assert AsyncResult(handle.id).get(timeout=1) == 3

    @pytest.mark.parametrize(("most", "attempts"), [(0, 1), (1, 2), (5, 6)])
    def test_a_retry_may_say_how_often(self, most, attempts):
        probe.retry_as_told.delay({"max_retries": most})
        for _ in range(10):
            make_due()
            drain()
        task = DurableTask.objects.get()
        assert (task.status, task.attempts) == (Status.DEAD, attempts)

    def test_a_retry_may_say_other_options_and_keeps_those_of_the_call(self):
        probe.retry_as_told.apply_async(
            ({"expires": 600, "queue": "email", "priority": 7, "headers": {"colour": "red"}},), shadow="retried"
        )
        drain()
        task = DurableTask.objects.get()
        assert (task.status, task.queue, task.priority) == (Status.PENDING, "email", 7)
        assert 590 < (task.expires_at - timezone.now()).total_seconds() < 610
        assert (task.options["headers"], task.options["shadow"]) == ({"colour": "red"}, "retried")

    def test_a_replayed_task_has_as_many_attempts_as_the_replay_says(self):
        probe.retry_as_told.delay({"max_retries": 0})
        DurableTask.objects.update(attempt_limit=2)
        for _ in range(4):
            make_due()
            drain()
        assert DurableTask.objects.get().attempts == 2

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"args": [[1], 2, 3]}, "takes from"),
            ({"link": [1]}, "no option 'link'"),
            ({"max_retries": -1}, "max_retries is a number"),
            ({"max_retries": 40_000}, "max_retries is a number"),
            ({"countdown": 1e12}, "not over a hundred years"),
            ({"eta": "soon"}, "not a time in ISO 8601"),
        ],
    )
    def test_what_a_retry_cannot_do_is_said_in_the_dead_letter(self, options, says):
        probe.retry_as_told.delay(options)
        for _ in range(4):
            make_due()
            drain()
        task = DurableTask.objects.get()
        assert task.status == Status.DEAD
        assert says in task.last_error

    @pytest.mark.parametrize("transactional", [True, False])
    def test_one_that_does_not_throw_lets_the_body_go_on_and_the_attempt_ends_as_it_would(self, transactional):
        went_on = []

        @app.task(name="tests.ask_and_go_on", bind=True, base=Task, max_retries=2, transactional=transactional)
        def ask_and_go_on(self):
            Collection.objects.create(title=f"of attempt {self.request.retries}")
            if self.request.retries < 2:
                asked = self.retry(countdown=300, throw=False)
                went_on.append(type(asked).__name__)
                return "dropped"
            return "done"

        try:
            call = ask_and_go_on.delay()
            drain()
            row = DurableTask.objects.get()
            assert (row.status, row.attempts, call.state) == (Status.PENDING, 1, "RETRY")
            assert 295 < (row.available_at - row.published_at).total_seconds() < 305
            for _ in range(2):
                make_due()
                drain()
        finally:
            app.tasks.pop("tests.ask_and_go_on")
        assert (went_on, call.get(timeout=5)) == (["Retry"] * 2, "done")
        assert Collection.objects.count() == (1 if transactional else 3)

    def test_a_moment_to_retry_at_is_by_the_database_s_clock(self, monkeypatch):
        monkeypatch.setattr(timezone, "now", lambda: datetime(2020, 1, 1, tzinfo=UTC))
        probe.retry_as_told.delay({"eta": "2090-12-01T08:00:00Z"})
        monkeypatch.undo()
        drain()
        assert DurableTask.objects.get().available_at == datetime(2090, 12, 1, 8, tzinfo=UTC)

    @pytest.mark.parametrize(("task", "attempts"), [(probe.pause_evenly, 5), (probe.retry_by_celery, 2)])
    def test_retry_kwargs_say_how_often_and_after_which_pause(self, task, attempts):
        task.delay()
        drain()
        row = DurableTask.objects.get()
        assert 29 < (row.available_at - row.published_at).total_seconds() < 35
        for _ in range(10):
            make_due()
            drain()
        row.refresh_from_db()
        assert (row.status, row.attempts) == (Status.DEAD, attempts)

    def test_retry_kwargs_that_nobody_would_heed_are_refused_where_they_are_written(self):
        with pytest.raises(TypeError, match=r"not \['queue'\]"):
            type("Odd", (Task,), {"retry_kwargs": {"queue": "email"}})


class TestWaysOfWriting:
    @pytest.fixture
    def as_in_a_worker(self, monkeypatch):
        """A worker has a class that overrides ``__call__`` and calls Celery's own keep its request."""
        monkeypatch.setattr(celery.Task, "__call__", celery.Task.__call__)
        trace._install_stack_protection()
        yield
        del celery.Task._stackprotected

    @pytest.mark.usefixtures("as_in_a_worker")
    def test_what_a_class_does_around_each_body_is_done(self):
        handle = probe.tell_frame.apply_async(priority=3)
        drain()
        assert probe.seen == ["before", (handle.id, False, 3)]

    @pytest.mark.parametrize("transactional", [True, False])
    def test_a_class_that_is_registered_is_a_task_like_any_other(self, transactional):
        class MakeCollection(Task):
            name = "tests.of_a_class"

            def run(self, title):
                return Collection.objects.create(title=title).title + str(self.request.retries)

        MakeCollection.transactional = transactional
        task = app.register_task(MakeCollection())
        try:
            calls = [task.delay("garden"), app.send_task("tests.of_a_class", ["cellar"]), task.s("shed").delay()]
            drain()
        finally:
            app.tasks.pop("tests.of_a_class")
        assert [call.get(timeout=5) for call in calls] == ["garden0", "cellar0", "shed0"]
        assert set(DurableTask.objects.values_list("name", "status")) == {("tests.of_a_class", Status.SUCCEEDED)}

    def test_a_task_s_body_runs_here_and_now_by_apply_and_by_a_call(self):
        assert probe.make_collection.apply(("garden",)).get() == "garden"
        assert probe.make_collection("cellar") == "cellar"
        assert probe.seen == ["garden", "cellar"]
        assert not DurableTask.objects.exists()

    def test_annotations_say_what_a_decorator_might(self, monkeypatch):
        annotations = prepare({"tests.annotated": {"max_retries": 3, "retries": "patient"}})
        monkeypatch.setitem(app.__dict__, "annotations", annotations)

        @app.task(name="tests.annotated")
        def annotated():
            pass

        try:
            assert (annotated.max_attempts, annotated.retry_backoff_max) == (4, POLICIES[PATIENT].longest)
        finally:
            app.tasks.unregister("tests.annotated")

    def test_limits_that_contradict_each_other_are_refused_when_the_call_is_made(self, monkeypatch):
        monkeypatch.setattr(probe.make_collection, "time_limit", 1)
        monkeypatch.setattr(probe.make_collection, "soft_time_limit", 2)
        with pytest.raises(ValueError, match="soft_time_limit must be less than or equal to time_limit"):
            probe.make_collection.delay("a")

    def test_an_error_that_a_task_says_it_throws_is_a_failure_without_alarm(self, caplog):
        handle = probe.expect.delay()
        with caplog.at_level("INFO", logger="celery_ledger"):
            drain()
        assert handle.state == "FAILURE"
        [record] = [record for record in caplog.records if "is dead" in record.getMessage()]
        assert (record.levelname, record.exc_info) == ("INFO", None)


class TestPriorities:
    def test_each_of_celerys_priorities_is_taken_and_0_goes_first(self):
        for priority in reversed(PRIORITIES):
            probe.make_collection.apply_async((f"{priority}",), priority=priority)
        claimed = [ledger.claim({"default": 1}, lease=60, limit=1)[0].id for _ in PRIORITIES]
        priorities = dict(DurableTask.objects.values_list("id", "priority"))
        assert [priorities[id] for id in claimed] == list(PRIORITIES)

    def test_a_task_may_say_its_own(self):
        probe.go_last.delay("a")
        probe.go_last.apply_async(("b",), priority=0)
        assert sorted(DurableTask.objects.values_list("args__0", "priority")) == [("a", 9), ("b", 0)]

    def test_the_routes_may_say_it_too(self, monkeypatch):
        monkeypatch.setattr(
            app.amqp,
            "router",
            routes.Router(routes.prepare({"tests.routed": {"priority": 3}}), app.amqp.queues, app=app),
        )

        @app.task(name="tests.routed")
        def routed(title):
            pass

        try:
            routed.delay("a")
            routed.apply_async(("b",), priority=7)
        finally:
            app.tasks.unregister("tests.routed")
        assert sorted(DurableTask.objects.values_list("args__0", "priority")) == [("a", 3), ("b", 7)]

    def test_a_function_among_the_routes_is_asked_about_each_call(self, monkeypatch):
        def route(name, args, kwargs, options, task=None, **_):
            return {"queue": "email", "priority": 7} if (*args, *kwargs.values())[0] == "mail" else None

        monkeypatch.setattr(
            app.amqp,
            "router",
            routes.Router(routes.prepare([route, {"tests.routed_*": {"priority": 3}}]), app.amqp.queues, app=app),
        )

        @app.task(name="tests.routed_by_arguments")
        def routed(title):
            pass

        try:
            for title in ("a", "mail", "b"):
                routed.delay(title)
            routed.apply_async(("mail",), queue="inventory", priority=1)
            routed.apply_async(kwargs={"title": "mail"})
        finally:
            app.tasks.unregister("tests.routed_by_arguments")
        default = routed.default_queue
        assert set(DurableTask.objects.values_list("args__0", "kwargs__title", "queue", "priority")) == {
            ("a", None, default, 3),
            ("mail", None, "email", 7),
            ("b", None, default, 3),
            ("mail", None, "inventory", 1),
            (None, "mail", "email", 7),
        }

    @pytest.mark.parametrize("project_says_so", [True, False])
    def test_what_a_task_calls_has_its_priority_if_the_project_says_so(self, project_says_so):
        app.conf.task_inherit_parent_priority = project_says_so

        @app.task(name="tests.call_others", base=Task)
        def call_others():
            probe.make_collection.delay("a")
            probe.make_collection.apply_async(("b",), priority=7)
            probe.go_last.delay("c")

        try:
            call_others.apply_async(priority=2)
            probe.make_collection.delay("d")
            drain()
        finally:
            app.conf.task_inherit_parent_priority = False
            app.tasks.pop("tests.call_others")
        rows = DurableTask.objects.exclude(name="tests.call_others").values_list("args__0", "priority")
        assert sorted(rows) == [("a", 2 if project_says_so else 5), ("b", 7), ("c", 9), ("d", 5)]

    @pytest.mark.parametrize("priority", [-1, 10, 2.5, True, "high"])
    def test_what_is_none_is_refused(self, priority):
        with pytest.raises(ValueError, match="from 0, which is first, to 9"):
            probe.make_collection.apply_async(("a",), priority=priority)


@pytest.mark.processes
def test_times_are_kept_by_the_database_s_clock_never_early_and_within_seconds(machine):
    machine.start_relay()
    machine.start_worker(concurrency=1)
    now = timezone.now()
    due = [
        probe.make_collection.apply_async((f"{n}",), **when)
        for n, when in enumerate(
            ({"countdown": 2}, {"eta": now + timedelta(seconds=3)}, {"eta": (now + timedelta(seconds=3)).isoformat()})
        )
    ]
    expired = [
        probe.make_collection.apply_async(("late",), countdown=3600, expires=expires)
        for expires in (2, now + timedelta(seconds=3))
    ]
    rows = DurableTask.objects.order_by("id")
    wait_until("all have ended", lambda: not rows.exclude(status__in=["succeeded", "cancelled"]).exists(), seconds=60)
    ended = {str(row.id): row for row in rows}
    waited = [ended[call.id].published_at - ended[call.id].available_at for call in due]
    waited += [ended[call.id].completed_at - ended[call.id].expires_at for call in expired]
    print("late by", *waited)
    assert all(timedelta() <= late < timedelta(seconds=10) for late in waited)  # Seconds of a busy machine.
    assert [ended[call.id].available_at - ended[call.id].created_at for call in due[:1]] == [timedelta(seconds=2)]
    assert {ended[call.id].status for call in expired} == {Status.CANCELLED}


class TestExpiry:
    def expire(self):
        DurableTask.objects.exclude(expires_at=None).update(expires_at=F("created_at") - timedelta(seconds=1))

    @pytest.mark.fault("F72")
    @pytest.mark.parametrize("expires", [60, 60.5, timezone.now() + timedelta(minutes=1), "2090-12-01T08:00:00Z"])
    def test_f72_a_call_that_expired_is_not_run_and_says_so(self, expires):
        handle = probe.make_collection.apply_async(("late",), expires=expires)
        probe.make_collection.apply_async(("in time",), expires=expires)
        DurableTask.objects.exclude(id=handle.id).update(expires_at=F("created_at") + timedelta(hours=1))
        DurableTask.objects.filter(id=handle.id).update(expires_at=F("created_at") - timedelta(seconds=1))
        drain()
        assert probe.seen == ["in time"]
        assert expiring.cancel_expired() == 1
        task = DurableTask.objects.get(id=handle.id)
        assert (task.status, task.last_error) == (Status.CANCELLED, "It expired before it could run.")
        with pytest.raises(TaskRevokedError):
            handle.get(timeout=1)

    def test_a_call_that_does_not_expire_yet_is_run(self):
        probe.make_collection.apply_async(("in time",), expires=60)
        assert expiring.cancel_expired() == 0
        assert 55 < (DurableTask.objects.get().expires_at - timezone.now()).total_seconds() < 65
        drain()
        assert probe.seen == ["in time"]

    def test_an_effect_outside_expires_too(self):
        probe.ring.apply_async(("bell",), expires=60)
        self.expire()
        drain()
        assert (probe.seen, expiring.cancel_expired()) == ([], 1)

    def test_a_task_may_say_how_long_its_calls_live(self):
        probe.go_last.delay("a")
        row = DurableTask.objects.get()
        assert row.expires_at - row.created_at == timedelta(hours=1)

    def test_an_expired_task_that_a_person_replays_is_run(self):
        probe.give_up.apply_async(("permanent",), expires=60)
        drain()
        self.expire()
        assert dead_letters.replay([DurableTask.objects.get().id]) == 1
        assert DurableTask.objects.get().expires_at is None


@pytest.mark.parametrize("words", ["\0", "half a \ud83d", ["x"] * 2_000_000])
def test_arguments_that_no_row_can_hold_are_refused_of_whoever_edits_a_dead_letter(words):
    probe.give_up.delay("permanent")
    drain()
    with pytest.raises(TypeError, match="The arguments of"):
        dead_letters.replay_edited(DurableTask.objects.get().id, args=[words], kwargs={})
    assert DurableTask.objects.get().status == Status.DEAD


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("link", [1], "takes signatures"),
        ("link_error", [1], "takes signatures"),
        ("chain", [1], "takes signatures"),
        ("chord", {"x": 1}, "takes signatures"),
        ("routing_key", "email", "Name a queue"),
        ("exchange", "shop", "Name a queue"),
    ],
)
def test_an_option_that_a_row_does_not_have_is_refused_with_a_word_about_what_to_do(option, value, says):
    with pytest.raises(TypeError, match=says):
        probe.make_collection.apply_async(("a",), **{option: value})
    assert not DurableTask.objects.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("compression", "gzip"),
        ("connection", object()),
        ("producer", object()),
        ("retry_policy", {"max_retries": 1}),
        ("shadow", "other"),
        ("ignore_result", True),
        ("retry", True),
        ("add_to_parent", False),
        ("link", []),
        ("serializer", "json"),
        ("reply_to", "x"),
        ("queue", Queue("email")),
    ],
)
def test_an_option_that_nobody_would_miss_is_taken(option, value):
    probe.make_collection.apply_async(("a",), **{option: value})
    drain()
    assert (DurableTask.objects.get().status, probe.seen) == (Status.SUCCEEDED, ["a"])


@pytest.mark.parametrize("is_trail_wanted", [True, False])
def test_what_a_task_calls_is_among_its_children_unless_the_call_says_otherwise(is_trail_wanted):
    trails = []

    @app.task(name="tests.have_children", bind=True, base=Task)
    def have_children(self):
        child = probe.make_collection.apply_async(("a",), add_to_parent=is_trail_wanted)
        trails.append([child.id] == [each.id for each in self.request.children])

    try:
        have_children.delay()
        drain()
    finally:
        app.tasks.pop("tests.have_children")
    assert trails == [is_trail_wanted]


class TestOnCommit:
    def test_a_call_on_commit_is_a_row_of_the_transaction(self):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            probe.make_collection.delay_on_commit("never")
            probe.make_collection.apply_async_on_commit(("never",))
            1 / 0  # noqa: B018
        assert not DurableTask.objects.exists()
        with transaction.atomic():
            probe.make_collection.delay_on_commit("garden")
            probe.make_collection.apply_async_on_commit(("kitchen",), queue="email")
            assert set(DurableTask.objects.values_list("queue", flat=True)) == {"default", "email"}


class TestEagerMode:
    """``task_always_eager``, for the suites of projects."""

    @pytest.fixture(autouse=True)
    def eager(self):
        app.conf.task_always_eager = True
        yield
        app.conf.task_always_eager = False

    def test_a_call_runs_at_once_and_writes_no_row(self):
        assert probe.make_collection.delay("garden").get() == "garden"
        assert probe.make_collection.apply_async(kwargs={"title": "kitchen"}, countdown=60).successful()
        assert app.send_task("tests.make_collection", ["cellar"]).get() == "cellar"
        assert set(Collection.objects.values_list("title", flat=True)) == {"garden", "kitchen", "cellar"}
        assert not DurableTask.objects.exists()

    def test_a_batch_is_of_one(self):
        assert probe.make_collections.delay("garden").successful()
        assert Collection.objects.get().title == "garden"

    def test_what_no_row_could_hold_is_refused_as_well(self):
        with pytest.raises(TypeError, match="must be JSON"):
            probe.make_collection.delay(object())
        with pytest.raises(TypeError, match="'routing_key'"):
            probe.make_collection.apply_async(("garden",), routing_key="email")

    def test_a_retry_is_made_at_once(self):
        tried = []

        @app.task(name="tests.retry_at_once", bind=True, base=Task, max_retries=2)
        def retry_at_once(self, title):
            tried.append((title, self.request.retries))
            if self.request.retries < 2:
                raise self.retry(countdown=60)
            return title

        try:
            assert retry_at_once.delay("garden").get() == "garden"
        finally:
            app.tasks.pop("tests.retry_at_once")
        assert tried == [("garden", 0), ("garden", 1), ("garden", 2)]
