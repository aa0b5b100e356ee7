"""The way into the ledger: a call exists if and only if its transaction does."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from celery.result import AsyncResult
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import probe
from worker import ledger, limits
from worker.context import working_on
from worker.models import DurableTask, Priority
from worker.outbox import collecting
from worker.sql import statements
from worker.testing import drain, enqueued

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
    for _ in range(3):
        probe.make_collection.apply_async(("daily",), unique_key="report:2010-12-01")
    assert DurableTask.objects.count() == 1


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
        (lambda: probe.make_collections.delay("a", "b"), TypeError, "one positional argument"),
        (lambda: probe.make_collection.apply_async(("a",), queue="nowhere"), ValueError, "there is no queue 'nowhere'"),
        (lambda: probe.make_collection.apply_async(("a",), priority=3), ValueError, "3"),
        (lambda: probe.make_collection.apply_async(("a",), link=probe.ring.s()), TypeError, "no option 'link'"),
        (lambda: (probe.make_collection.s("a") | probe.ring.s()).delay(), TypeError, "no option"),
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
