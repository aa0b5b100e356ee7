"""The way into the ledger: a call exists if and only if its transaction does."""

import uuid
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from celery.result import AsyncResult
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from celery_ledger.context import working_on
from celery_ledger.models import DurableTask, Priority
from celery_ledger.relay import limits
from celery_ledger.rows import calls, inserts, ledger
from celery_ledger.rows.outbox import collecting
from celery_ledger.rows.sql import statements
from celery_ledger.testing import drain, enqueued
from tests import probe
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_call_is_there_when_its_transaction_commits():
    with transaction.atomic():
        probe.make_collection.delay("garden")
    assert [task.args for task in enqueued("tests.make_collection")] == [["garden"]]


def test_a_call_is_gone_when_its_transaction_rolls_back():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        probe.make_collection.delay("garden")
        1 / 0  # noqa: B018
    assert DurableTask.objects.count() == 0


def test_calls_that_are_collected_are_written_by_one_statement():
    with (
        CaptureQueriesContext(
            connection,
        ) as queries,
        collecting(),
    ):
        for number in range(20):
            probe.make_collection.delay(f"shelf {number}")
    assert len(queries) == 1
    assert DurableTask.objects.count() == 20


def test_a_block_asks_once_whether_calls_run_at_once(monkeypatch):
    asked = []
    eager = property(lambda conf: asked.append(conf) or False)
    monkeypatch.setattr(type(app.conf), "task_always_eager", eager, raising=False)
    with collecting():
        for title in "abc":
            probe.make_collection.delay(title)
    assert len(asked) == 1
    probe.make_collection.delay("d")
    assert len(asked) == 2


@pytest.mark.parametrize("options", [{"expires": 60}, {"countdown": 5}, {"unique_key": "key"}, {}], ids=str)
def test_what_only_some_of_the_collected_calls_say_is_said_of_those(options):
    """Columns that are empty in all calls are not sent."""
    with collecting():
        plain = probe.make_collection.delay("plain")
        probe.make_collection.apply_async(("other",), **options)
    expected = {"expires": None, "countdown": 0.0, "unique_key": None} | options
    for row in DurableTask.objects.all():
        said = expected if str(row.id) != plain.id else {"expires": None, "countdown": 0.0, "unique_key": None}
        assert (row.available_at - row.created_at).total_seconds() == said["countdown"]
        assert row.unique_key == said["unique_key"]
        assert (row.expires_at is not None) == (said["expires"] is not None)


def test_calls_of_a_block_that_fails_are_dropped():
    with pytest.raises(ZeroDivisionError), collecting():
        probe.make_collection.delay("garden")
        1 / 0  # noqa: B018
    assert DurableTask.objects.count() == 0


def test_the_handle_names_the_row_and_later_its_result():
    handle = probe.make_collection.delay("garden")
    assert DurableTask.objects.get().id == uuid.UUID(handle.id)
    drain()
    assert AsyncResult(handle.id).get(timeout=1) == "garden"


def test_a_batched_call_has_a_result_too():
    handles = [probe.make_collections.delay(title) for title in ("a", "b", "c")]
    drain()
    assert [AsyncResult(handle.id).state for handle in handles] == ["SUCCESS"] * 3


def test_a_countdown_keeps_a_task_from_being_claimed():
    probe.make_collection.apply_async(("later",), countdown=3600)
    assert drain() == 0


def test_an_eta_in_the_past_is_due_and_one_ahead_is_not():
    probe.make_collection.apply_async(("past",), eta=timezone.now() - timedelta(seconds=1))
    probe.make_collection.apply_async(("ahead",), eta=timezone.now() + timedelta(days=3))
    drain()
    assert probe.seen == ["past"]


def test_a_unique_key_is_recorded_once():
    handles = [probe.make_collection.apply_async(("daily",), unique_key="report:2010-12-01") for _ in range(3)]
    assert [handle.id for handle in handles] == [str(DurableTask.objects.get().id)] * 3
    drain()
    assert [handle.get(timeout=1) for handle in handles] == ["daily"] * 3


def test_a_key_that_is_repeated_among_collected_calls_gives_the_first_ones_handle_when_they_are_written():
    before = probe.make_collection.apply_async(("a",), unique_key="a")
    with collecting():
        handles = [probe.make_collection.apply_async((key,), unique_key=key) for key in "abb"]
    assert handles[0].id == before.id
    assert handles[1].id == handles[2].id
    assert {str(task.id) for task in DurableTask.objects.all()} == {handle.id for handle in handles}


def add_in_a_block(title, error=None, **options):
    with suppress(ZeroDivisionError), transaction.atomic(**options):
        probe.make_collection.delay(title)
        if error:
            raise error


@pytest.mark.fault("F70")
@pytest.mark.parametrize("outside", [True, False])
def test_f70_a_collected_call_is_gone_with_the_part_of_the_transaction_it_was_made_in(outside):
    with nullcontext() if outside else transaction.atomic(), collecting():
        add_in_a_block("kept")
        add_in_a_block("gone", ZeroDivisionError())
        with suppress(ZeroDivisionError), transaction.atomic():
            add_in_a_block("gone with its outer part")
            raise ZeroDivisionError
        with transaction.atomic():
            add_in_a_block("gone too", ZeroDivisionError())
            add_in_a_block("kept beside it")
            probe.make_collection.delay("kept after it")
    assert {task.args[0] for task in DurableTask.objects.all()} == {"kept", "kept beside it", "kept after it"}
    assert connection.run_on_commit == []


def test_what_a_task_enqueued_in_a_part_of_its_transaction_that_failed_is_not_done(monkeypatch):
    monkeypatch.setattr(probe.make_collection, "run", lambda title: add_in_a_block("never", ZeroDivisionError()))
    probe.make_collection.delay("garden")
    drain()
    assert [task.args[0] for task in DurableTask.objects.all()] == ["garden"]


def test_calls_for_several_statements_outside_any_transaction_are_all_written_or_none(monkeypatch):
    monkeypatch.setattr(inserts, "MOST_ROWS", 2)
    with pytest.raises(IntegrityError), collecting() as held_back:
        for number in range(3):
            probe.make_collection.delay(f"{number}")
        held_back[2] = replace(held_back[2], name=None)
    assert DurableTask.objects.count() == 0


@pytest.mark.fault("F122")
def test_calls_among_much_else_that_waits_for_the_commit_look_at_it_once():
    looks = 0

    class Hooks(list):
        def __reversed__(self):
            nonlocal looks
            looks += 1
            return super().__reversed__()

    with collecting() as held_back, transaction.atomic():
        connection.run_on_commit = Hooks(connection.run_on_commit)
        for number in range(200):
            transaction.on_commit(lambda: None)
            probe.make_collection.delay(f"shelf {number}")
        with suppress(ZeroDivisionError), transaction.atomic():
            probe.make_collection.delay("undone")
            raise ZeroDivisionError
        probe.make_collection.delay("the last")
    assert len(held_back) == 202
    assert looks <= 2
    assert DurableTask.objects.count() == 201


@pytest.mark.fault("F70")
def test_f70_a_hundred_thousand_calls_of_one_block_are_written():
    with transaction.atomic(), collecting():
        for number in range(100_000):
            probe.make_collection.delay(f"shelf {number}")
    assert DurableTask.objects.count() == 100_000


def test_calls_that_are_too_large_together_for_one_statement_are_written_by_several(monkeypatch):
    monkeypatch.setattr(inserts, "MOST_CHARACTERS", 1_000)
    with CaptureQueriesContext(connection) as queries, collecting():
        for number in range(10):
            probe.make_collection.delay(f"{number} {'x' * 400}")
    assert len([query for query in queries if "INSERT" in query["sql"]]) == 5
    assert DurableTask.objects.count() == 10


def test_tasks_of_a_task_are_part_of_its_transaction_and_its_story():
    with working_on(request_id="request-1", subject="store.order:7"):
        probe.enqueue_children.delay(["a", "b"])
    drain()
    assert {(task.request_id, task.subject) for task in DurableTask.objects.all()} == {("request-1", "store.order:7")}
    assert sorted(probe.seen) == ["a", "b"]


def test_the_queue_comes_from_the_routes_or_the_call():
    probe.make_collection.delay("a")
    probe.make_collection.apply_async(("b",), queue="email", priority=Priority.HIGH)
    assert set(DurableTask.objects.values_list("queue", "priority")) == {("default", 5), ("email", 0)}


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: probe.make_collection.delay(), TypeError, "title"),
        (lambda: probe.make_collection.delay(object()), TypeError, "must be JSON"),
        (lambda: probe.make_collection.delay(float("nan")), TypeError, "must be JSON"),
        (lambda: probe.make_collection.delay("\0"), TypeError, "NUL"),
        (lambda: probe.make_collection.delay("half a \ud83d"), TypeError, "surrogates not allowed"),
        (lambda: probe.make_collection.delay("x" * 5_000_000), ValueError, "characters of JSON"),
        (lambda: probe.make_collections.delay("a", "b"), TypeError, "one positional argument"),
        (lambda: probe.make_collection.apply_async(("a",), queue="nowhere"), ValueError, "there is no queue 'nowhere'"),
        (lambda: probe.make_collection.apply_async(("a",), priority=10), ValueError, "10"),
        (lambda: probe.make_collection.apply_async(("a",), link="ring"), TypeError, "link takes signatures"),
    ],
)
def test_a_call_that_cannot_be_kept_is_refused_at_once(call, error, says):
    with pytest.raises(error, match=says):
        call()
    assert DurableTask.objects.count() == 0


def test_a_direct_call_runs_the_body_and_touches_no_ledger():
    assert probe.make_collection("garden") == "garden"
    assert DurableTask.objects.count() == 0


def test_a_claim_takes_high_priority_first_and_leaves_the_rest_beyond_the_room():
    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.NORMAL):
        probe.make_collection.apply_async((f"{priority}",), priority=priority)
    claimed = ledger.claim({"default": 2}, lease=60, limit=100)
    assert sorted(DurableTask.objects.filter(status="published").values_list("priority", flat=True)) == [0, 5]
    assert len(claimed) == 2


def test_a_moment_without_a_zone_is_meant_in_the_shop_s(settings):
    probe.make_collection.apply_async(("later",), eta=datetime(2099, 1, 1, 12))
    assert DurableTask.objects.get().available_at == datetime(2099, 1, 1, 12, tzinfo=UTC)


def test_a_test_whose_tasks_never_end_is_told_so(monkeypatch):
    monkeypatch.setattr(probe.make_collection, "run", lambda title: probe.make_collection.delay(title) and None)
    probe.make_collection.delay("again and")
    with pytest.raises(AssertionError, match="Tasks keep enqueueing tasks"):
        drain()


def test_a_limit_that_was_taken_off_a_moment_ago_limits_nothing():
    for title in "abc":
        probe.make_collection.delay(title)
    assert len(limits.claim("default", room=5, lease=60)) == 3


def test_a_database_that_the_ledger_has_no_statements_for_is_named():
    with pytest.raises(NotImplementedError, match="on PostgreSQL and SQLite, not on oracle"):
        statements("oracle")


def test_what_a_call_may_hold_is_what_its_columns_do():
    assert {name: DurableTask._meta.get_field(name).max_length for name in calls._WIDTHS} == calls._WIDTHS
