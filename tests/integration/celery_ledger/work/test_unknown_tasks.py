"""Rows of unknown tasks: postponed in growing pauses, a few per second, and dead after a day."""

import itertools
from datetime import timedelta

import pytest
from celery.result import AsyncResult
from django.db.models import F
from django.db.models.functions import Now

from celery_ledger.desk import dead_letters
from celery_ledger.models import DurableTask, FailedAttempt
from celery_ledger.rows import results
from celery_ledger.testing import drain
from celery_ledger.work import leaving
from tests import probe
from tests.by_hand import make_due, publish, take

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "tests.no_longer_there"


def enqueue_unknown(count=1):
    return DurableTask.objects.bulk_create(
        DurableTask(name=NAME, queue="default", args=[number]) for number in range(count)
    )


def meet():
    """Have a process that does not know the task meet a message of it."""
    ids = publish()
    take(probe.make_collection, ids)
    return ids


@pytest.mark.fault("F82")
def test_pauses_grow_from_seconds_to_minutes_and_end_in_a_dead_letter_after_a_day(monkeypatch):
    monkeypatch.setattr(leaving.backoff, "jittered", lambda seconds: seconds)
    (task,) = enqueue_unknown()
    pauses = []
    while True:
        meet()
        task.refresh_from_db()
        if task.status != "pending":
            break
        pauses.append((task.available_at - task.published_at).total_seconds())
        step = timedelta(seconds=pauses[-1])
        DurableTask.objects.update(available_at=F("available_at") - step, unknown_since=F("unknown_since") - step)
    assert pauses[0] < 3
    assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(pauses))
    assert pauses[-1] == pytest.approx(300, abs=2)
    assert 24 * 3600 <= sum(pauses) < 25 * 3600
    assert (task.status, task.attempts, task.lapses) == ("dead", 0, 0)
    assert task.last_error == f"UnknownTaskError: there is no task {NAME} here"
    assert FailedAttempt.objects.count() == 1
    assert AsyncResult(str(task.id)).state == "FAILURE"
    assert list(results.untrue()) == []


def test_a_dead_letter_that_is_replayed_has_another_day():
    (task,) = enqueue_unknown()
    meet()
    DurableTask.objects.update(unknown_since=Now() - timedelta(hours=25))
    make_due()
    meet()
    assert dead_letters.replay([task.id]) == 1
    meet()
    task.refresh_from_db()
    assert (task.status, task.attempts) == ("pending", 0)


@pytest.mark.fault("F82")
def test_the_others_of_a_task_are_left_with_the_first_and_come_back_a_few_a_second():
    enqueue_unknown(900)
    later = DurableTask.objects.create(name=NAME, queue="default", available_at=Now() + timedelta(days=2))
    one = str(DurableTask.objects.order_by("id").first().id)
    DurableTask.objects.filter(id=one).update(status="published", published_at=Now())
    take(probe.make_collection, [one])
    waiting = DurableTask.objects.filter(status="pending", unknown_since__isnull=False)
    assert waiting.count() == 900
    soon = waiting.filter(available_at__lt=Now() + timedelta(seconds=60))
    assert soon.count() <= 60 * leaving.RATE
    assert waiting.filter(available_at__gt=Now() + timedelta(seconds=900 / leaving.RATE + 1)).count() == 0
    later.refresh_from_db()
    assert later.unknown_since is None


def test_a_worker_that_knows_the_task_has_its_rows_at_once():
    probe.make_collection.delay("garden")
    DurableTask.objects.update(name=NAME)
    meet()
    DurableTask.objects.update(name="tests.make_collection", available_at=Now() + timedelta(minutes=5))
    assert leaving.recall(["tests.make_collection"]) == 1
    drain()
    assert probe.seen == ["garden"]
    assert leaving.recall([NAME]) == 0


def test_a_task_may_be_tried_more_often_than_a_small_number_can_say(monkeypatch):
    monkeypatch.setattr(probe.give_up, "max_retries", None)
    probe.give_up.delay("other")
    DurableTask.objects.update(attempts=32_767)
    drain()
    task = DurableTask.objects.get()
    assert (task.status, task.attempts) == ("pending", 32_768)
    assert FailedAttempt.objects.get().number == 32_768


@pytest.mark.parametrize(
    "text",
    ["half a surrogate \ud800", "a NUL \0", "x" * 1_000_000, "\ud800\0" * 5_000],
    ids=["surrogate", "nul", "huge", "all"],
)
@pytest.mark.parametrize("task", [probe.make_collection, probe.ring], ids=["inside", "outside"])
def test_an_error_of_any_text_is_recorded_at_the_first_attempt(text, task):
    probe.failing["garden"] = RuntimeError(text)
    handle = task.delay("garden")
    drain()
    row = DurableTask.objects.get()
    assert (row.status, row.attempts) == ("pending", 1)
    assert row.last_error.startswith("RuntimeError: ")
    assert FailedAttempt.objects.get().error.startswith("RuntimeError: ")
    assert AsyncResult(handle.id).state == "RETRY"


def test_an_error_that_cannot_even_be_told_is_recorded():
    class MuteError(Exception):
        def __str__(self):
            raise ValueError("no words")

    probe.failing["garden"] = MuteError("x")
    probe.make_collection.delay("garden")
    drain()
    row = DurableTask.objects.get()
    assert (row.attempts, row.last_error) == (1, "MuteError: <MuteError that cannot be told: ValueError>")
