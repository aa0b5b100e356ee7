"""A call's options are available when its row runs; arguments may have more types than JSON."""

import functools
import pickle
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import celery
import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery import group, signals
from celery.utils.nodenames import anon_nodename
from django.db import transaction
from django.utils import timezone

from celery_ledger.desk.dead_letters import replay_edited
from celery_ledger.models import DurableTask
from celery_ledger.rows import serialized
from celery_ledger.testing import drain
from tests import probe
from tests.processes import wait_until
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
TYPES = [
    datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
    date(2010, 12, 1),
    time(8, 26),
    Decimal("2.55"),
    UUID(int=536365),
    b"bytes",
    b"\xff",
    {"nested": [Decimal("3.39")]},
]


@dataclass(frozen=True)
class Rectangle:
    """Of the project's own, and no JSON."""

    width: int
    height: int


@pytest.fixture(params=[True, False], ids=["inside", "outside"])
def seen(request):
    """Have a task that keeps what it was given and what it saw of its request."""
    seen = []

    @app.task(name="tests.look_around", bind=True, base=Task, transactional=request.param)
    def look_around(self, *args, **kwargs):
        seen.append((args, kwargs, self.request.__dict__.copy()))

    yield look_around, seen
    app.tasks.pop("tests.look_around")


class TestArguments:
    @pytest.mark.parametrize("value", TYPES, ids=lambda value: type(value).__name__)
    def test_what_celerys_json_takes_arrives_as_it_was(self, seen, value):
        look_around, calls = seen
        look_around.delay(value, named=value)
        drain()
        assert calls[0][:2] == ((value,), {"named": value})

    @pytest.mark.parametrize(
        "value", [{"__type__": "datetime", "__value__": "no moment"}, {"__type__": [], "__value__": 1}]
    )
    def test_what_only_looks_like_one_of_those_arrives_as_it_is(self, seen, value):
        look_around, calls = seen
        look_around.delay(value)
        drain()
        assert calls[0][0] == (value,)

    def test_a_retry_may_give_them_too(self, seen):
        @app.task(name="tests.ask_again", bind=True, base=Task, max_retries=1)
        def ask_again(self, moment, calls=()):
            if self.request.retries == 0:
                raise self.retry(args=[moment + timedelta(days=1)], countdown=0)
            assert moment == datetime(2010, 12, 2, tzinfo=UTC)

        try:
            ask_again.delay(datetime(2010, 12, 1, tzinfo=UTC))
            drain()
            DurableTask.objects.filter(status="pending").update(available_at="2010-12-01T08:00Z")
            drain()
        finally:
            app.tasks.pop("tests.ask_again")
        assert DurableTask.objects.get(name="tests.ask_again").status == "succeeded"


class TestTheRequest:
    def test_headers_and_unknown_options_are_there(self, seen):
        look_around, calls = seen
        look_around.apply_async(headers={"tenant": 7, "id": "forged", "get": "forged"}, colour="blue", shadow="other")
        drain()
        [(_, _, request)] = calls
        assert request["headers"] == {"tenant": 7, "id": "forged", "get": "forged"}
        assert request["tenant"] == 7
        assert request["id"] == str(DurableTask.objects.get().id)
        assert "get" not in request
        assert request["properties"] == {"colour": "blue"}
        assert request["shadow"] == "other"

    def test_times_and_limits_are_there(self, seen):
        look_around, calls = seen
        eta, expires = timezone.now() - timedelta(seconds=1), timezone.now() + timedelta(hours=1)
        look_around.apply_async(eta=eta, expires=expires, time_limit=30, soft_time_limit=20)
        drain()
        [(_, _, request)] = calls
        assert (request["eta"], request["expires"]) == (eta.isoformat(), expires.isoformat())
        assert request["timelimit"] == [30, 20]

    def test_what_says_nothing_has_none(self, seen):
        look_around, calls = seen
        look_around.delay()
        drain()
        [(_, _, request)] = calls
        assert DurableTask.objects.get().options == {"origin": anon_nodename()}
        assert (request["headers"], request["properties"], request["parent_id"]) == ({}, {}, None)
        assert request["origin"] == anon_nodename()
        assert request["root_id"] == request["id"]

    def test_a_task_that_a_task_calls_knows_its_parent_and_its_root(self, seen):
        look_around, calls = seen

        @app.task(name="tests.call_on", bind=True, base=Task)
        def call_on(self, depth):
            (call_on.delay(depth - 1) if depth else look_around.delay())

        try:
            root = call_on.delay(1)
            drain()
        finally:
            app.tasks.pop("tests.call_on")
        [(_, _, request)] = calls
        parent = DurableTask.objects.get(name="tests.call_on", options__parent_id=root.id)
        assert (request["root_id"], request["parent_id"]) == (root.id, str(parent.id))

    @pytest.mark.parametrize("limit", [0, -1, True, "5", float("nan"), float("inf")])
    def test_a_limit_that_is_none_is_refused(self, seen, limit):
        with pytest.raises(TypeError, match="number of seconds above 0"):
            seen[0].apply_async(time_limit=limit)

    def test_headers_that_no_row_can_hold_are_refused(self, seen):
        with pytest.raises(TypeError, match="must be JSON"):
            seen[0].apply_async(headers={"tenant": object()})


class TestSignals:
    def test_what_a_receiver_adds_before_publishing_reaches_the_task(self, seen):
        look_around, calls = seen
        told = []

        def before(sender, body, exchange, routing_key, headers, properties, declare, retry_policy, **_):
            assert (sender, body[:2], headers["task"]) == ("tests.look_around", ((1,), {}), "tests.look_around")
            headers["traceparent"] = "00-1-2-01"

        def after(sender, body, headers, exchange, routing_key, **_):
            told.append(headers["id"])

        def sent(sender, task_id, task, args, kwargs, eta, taskset, **_):
            told.append(task_id)

        signals.before_task_publish.connect(before)
        signals.after_task_publish.connect(after)
        signals.task_sent.connect(sent)
        try:
            call = look_around.apply_async((1,), headers={"tenant": 7})
        finally:
            signals.before_task_publish.disconnect(before)
            signals.after_task_publish.disconnect(after)
            signals.task_sent.disconnect(sent)
        drain()
        [(_, _, request)] = calls
        assert request["headers"] == {"tenant": 7, "traceparent": "00-1-2-01"}
        assert request["traceparent"] == "00-1-2-01"
        assert told == [call.id, call.id]

    def test_receivers_see_stamps_callbacks_and_the_group(self, seen):
        look_around, _ = seen
        told = []

        def before(body, headers, properties, **_):
            told.append((body[2], headers, properties))

        signature = look_around.si(1)
        signature.link(look_around.si(2))
        signature.link_error(look_around.si(3))
        signature.stamp(tenant=7, places=["here", "there"])
        signals.before_task_publish.connect(before)
        try:
            group([signature]).apply_async()
        finally:
            signals.before_task_publish.disconnect(before)
        [(embedded, headers, properties)] = told
        assert embedded["callbacks"][0]["args"] == (2,)
        assert embedded["errbacks"][0]["args"] == (3,)
        assert sorted(headers["stamped_headers"]) == ["places", "tenant"]
        assert headers["stamps"] == {"tenant": 7, "places": ["here", "there"]}
        assert (headers["group"] is not None, headers["group_index"]) == (True, 0)
        assert not {"tenant", "places", "stamped_headers"} & properties.keys()


class Bomb:
    """What must not be opened."""

    def __reduce__(self):
        return pytest.fail, ("A pickle was opened.",)


class TestPickles:
    """Arguments that JSON cannot restore, in a project that accepts pickles."""

    OBJECTS = ({1: {2, 3}}, (4, "five"), Rectangle(6, 7))

    @pytest.fixture(autouse=True)
    def taken(self, monkeypatch):
        monkeypatch.setitem(app.conf.changes, "CELERY_ACCEPT_CONTENT", ["json", "pickle"])

    def test_they_arrive_as_they_were(self, seen):
        look_around, calls = seen
        look_around.apply_async(self.OBJECTS, {"named": self.OBJECTS}, serializer="pickle")
        drain()
        assert [call[:2] for call in calls] == [(self.OBJECTS, {"named": self.OBJECTS})]
        row = DurableTask.objects.get()
        assert (row.status, row.args, row.kwargs) == ("succeeded", [], {})

    def test_the_task_or_the_project_may_say_the_serializer_and_what_is_json_stays_json(self, seen):
        look_around, calls = seen
        look_around.serializer = "pickle"
        look_around.delay({8})
        look_around.delay(9, named=[UUID(int=10)])
        drain()
        assert sorted((call[:2] for call in calls), key=str) == [((9,), {"named": [UUID(int=10)]}), (({8},), {})]
        assert sorted(DurableTask.objects.values_list("args", flat=True)) == [[], [9]]

    @pytest.mark.parametrize("accepted", [["json"], ["json", "yaml"]])
    def test_a_project_that_does_not_take_them_has_the_call_refused(self, seen, monkeypatch, accepted):
        monkeypatch.setitem(app.conf.changes, "CELERY_ACCEPT_CONTENT", accepted)
        with pytest.raises(TypeError, match="must be JSON"):
            seen[0].apply_async(({11},), serializer="pickle")
        assert not DurableTask.objects.exists()

    def test_a_caller_s_data_that_looks_like_one_is_not_opened(self, seen):
        look_around, calls = seen
        body = b64encode(pickle.dumps(([Bomb()], {}))).decode()
        forged = ["application/x-python-serialize", "binary", body]
        look_around.apply_async(
            ({serialized.KEY: forged},),
            {serialized.KEY: forged},
            headers={serialized.KEY: forged},
            **{serialized.KEY: forged},
        )
        drain()
        assert calls[0][:2] == (({serialized.KEY: forged},), {serialized.KEY: forged})

    @pytest.mark.parametrize("why", ["not taken any more", "another version"])
    def test_what_cannot_be_read_is_a_dead_letter_until_somebody_gives_it_others(self, seen, monkeypatch, why):
        look_around, calls = seen
        look_around.retries = "brisk"
        look_around.apply_async((Rectangle(6, 7),), serializer="pickle")
        if why == "another version":
            monkeypatch.delitem(globals(), "Rectangle")
        else:
            monkeypatch.setitem(app.conf.changes, "CELERY_ACCEPT_CONTENT", ["json"])
        drain()
        row = DurableTask.objects.get()
        assert (row.status, row.attempts, calls) == ("dead", 1, [])
        assert "cannot be read" in row.last_error
        assert replay_edited(row.id, args=[12], kwargs={})
        drain()
        assert calls[0][0] == (12,)

    def test_a_retry_may_give_them_and_json_in_their_place(self):
        calls = []

        @app.task(name="tests.ask_again", bind=True, base=Task, max_retries=3, serializer="pickle")
        def ask_again(self, value, named=None):
            calls.append((value, named))
            if len(calls) < 3:
                raise self.retry(args=[[{13}, 14][len(calls) - 1]], countdown=0)

        try:
            ask_again.delay(0, named={15})
            drain()
        finally:
            app.tasks.pop("tests.ask_again")
        assert calls == [(0, {15}), ({13}, {15}), (14, {15})]


class TestTimeLimits:
    """Time limits of a call, which do not change its task."""

    def test_the_soft_one_is_raised_in_the_body_and_the_hard_one_where_no_pool_is(self):
        raised = []

        @app.task(name="tests.go_on", base=Task, max_retries=0)
        def go_on():
            try:
                wait_until("the end of time", lambda: False, seconds=5)
            except (SoftTimeLimitExceeded, TimeLimitExceeded) as error:
                raised.append(error)
                raise

        try:
            go_on.apply_async(soft_time_limit=0.1, time_limit=4)
            go_on.apply_async(time_limit=0.1)
            drain()
        finally:
            app.tasks.pop("tests.go_on")
        assert {type(error) for error in raised} == {SoftTimeLimitExceeded, TimeLimitExceeded}
        assert set(DurableTask.objects.values_list("status", flat=True)) == {"dead"}

    @pytest.mark.postgresql
    def test_they_may_be_longer_than_those_of_the_task(self, machine):
        """
        Which hold for all other calls; and a longer one ends its process too, when it is reached.

        SQLite has one writer: there these bodies wait for each other, and their limits run out meanwhile.
        """
        machine.start_relay()
        worker = machine.start_worker(concurrency=2)
        longer = probe.take_time.apply_async((2.5,), soft_time_limit=20, time_limit=20)
        too_long = probe.take_time.apply_async((30,), soft_time_limit=20, time_limit=3)
        others = [probe.take_time.delay(30), probe.take_time.apply_async((30,), time_limit=20)]
        rows = DurableTask.objects.filter(name=probe.take_time.name)
        wait_until("all have ended", lambda: not rows.exclude(status__in=["dead", "succeeded"]).exists(), seconds=60)
        assert rows.get(status="succeeded").id == UUID(longer.id)
        assert worker.says("ran longer than its hard time limit of 3 s")
        assert [DurableTask.objects.get(pk=call.id).last_error.partition("(")[0] for call in others] == [
            "SoftTimeLimitExceeded: SoftTimeLimitExceeded"
        ] * 2
        assert "WorkerDied" in DurableTask.objects.get(pk=too_long.id).last_error

    def test_the_hard_one_ends_a_process_of_the_pool(self, machine, tmp_path):
        """And the row beside it, which asked for none, is not touched."""
        machine.start_relay()
        worker = machine.start_worker(concurrency=1)
        stuck = probe.heed_nothing.apply_async((60,), time_limit=1)
        free = probe.make_slowly.delay("slow", 2)
        wait_until("it is dead", lambda: DurableTask.objects.get(pk=stuck.id).status == "dead", seconds=60)
        wait_until("the other is done", lambda: DurableTask.objects.get(pk=free.id).status == "succeeded")
        assert worker.says("ran longer than its hard time limit of 1 s")


class TestToolsThatWrapApplyAsync:
    """As sentry-sdk does, which puts its headers into each call."""

    def test_they_see_each_call_of_a_durable_task_once(self, seen, monkeypatch):
        look_around, calls = seen
        followed = []
        theirs = celery.Task.apply_async

        @functools.wraps(theirs)
        def follow(task, *args, **options):
            followed.append(task.name)
            return theirs(task, *args, **options | {"headers": {"sentry-trace": "1-2-1"}})

        monkeypatch.setattr(celery.Task, "apply_async", follow)
        with transaction.atomic():
            call = look_around.apply_async((1,), unique_key="one", priority=3, countdown=0)
        assert app.send_task("tests.look_around", (2,)).id != call.id
        drain()
        assert followed == ["tests.look_around"] * 2
        assert [request["headers"] for _, _, request in calls] == [{"sentry-trace": "1-2-1"}] * 2
        row = DurableTask.objects.get(pk=call.id)
        assert (row.unique_key, row.priority, row.status) == ("one", 3, "succeeded")
