"""The ledger's counts: outcomes of tasks, and waiting tasks by queue."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from celery_ledger.models import (
    Canary,
    DurableTask,
    FailedAttempt,
    Heartbeat,
    QueueLimit,
    QueueSample,
    QueueSwitch,
    Tally,
)
from celery_ledger.rows import ledger, tally
from celery_ledger.testing import drain
from celery_ledger.watch import samples
from tests import probe

pytestmark = pytest.mark.django_db(transaction=True)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TASK = UUID("01a1fcf6-bbe3-7db3-82b6-1ff496c63ade")
#: What lists of the admin and logs call a row of each kind.
NAMED = [
    (QueueSwitch(queue="email"), "email paused"),
    (QueueLimit(queue="email"), "email limited"),
    (FailedAttempt(task_id=TASK, number=2), f"attempt 2 of {TASK}"),
    (Tally(name="t", outcome="dead", rows=3), "3 t dead"),
    (QueueSample(queue="email", at=NOON), "email at 2026-11-21 12:00:00+00:00"),
    (Heartbeat(process="host 7", state="ok"), "host 7: ok"),
    (Canary(queue="email"), "canary of email"),
]


def test_every_outcome_is_counted_with_its_transaction():
    probe.make_collection.delay("good")
    for title in ("a", "b", "c"):
        probe.make_collections.delay(title)
    probe.failing["garden"] = ValueError("not yet")
    probe.make_collection.delay("garden")
    drain()
    assert tally.totals_by_queue()["default", "succeeded"][0] == 4
    assert tally.totals_by_queue()["default", "retried"] == (1, 0)
    assert tally.totals_by_queue()["default", "succeeded"][1] > 0


def test_what_is_rolled_back_is_not_counted():
    probe.failing["b"] = ValueError("b")
    for title in ("a", "b", "c"):
        probe.make_collections.delay(title)
    drain()
    assert tally.totals_by_queue()["default", "succeeded"][0] == 2
    assert DurableTask.objects.filter(name="tests.make_collections", status=DurableTask.Status.SUCCEEDED).count() == 2


def test_rescues_are_counted():
    probe.make_collection.delay("a")
    ledger.claim({"default": 1}, lease=60, limit=10)
    DurableTask.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert ledger.lapse_expired() == 1
    assert tally.totals_by_queue()["default", "rescued"] == (1, 0)


def test_a_sample_is_taken_once_a_moment_and_forgotten_after_a_day():
    samples.take({"email": 7})
    QueueSample.objects.update(at=timezone.now() - timedelta(days=2))
    samples.take({"email": 8})
    samples.take({"email": 9})
    assert {sample.messages for sample in QueueSample.objects.filter(queue="email")} <= {8, 9}
    moments = QueueSample.objects.values("at").distinct().count()
    assert QueueSample.objects.count() == moments * len(samples.queue_names())


@pytest.mark.parametrize(("row", "name"), NAMED, ids=[type(row).__name__ for row, _ in NAMED])
def test_each_row_has_a_name_for_people(row, name):
    assert str(row) == name


def test_processes_move_on_to_the_next_slot_and_never_share_one(monkeypatch):
    """Each change of a row walks over the old versions that a snapshot keeps of it."""
    clock, pid = [1_000_000.0], [0]
    monkeypatch.setattr(tally.time, "time", lambda: clock[0])
    monkeypatch.setattr(tally.os, "getpid", lambda: pid[0])
    used = set()
    for _ in range(tally.SLOTS):
        slots = []
        for pid[0] in range(4100, 4100 + tally.SLOTS):
            slots.append(tally.own_slot())
        assert len(set(slots)) == tally.SLOTS
        used.add(slots[0])
        clock[0] += tally.SLOT_LASTS
    assert used == set(range(tally.SLOTS))
