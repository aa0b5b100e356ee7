"""Relays enforce a task's rate in the whole cluster, and no worker waits for it."""

from datetime import timedelta

import pytest
from celery import shared_task
from django.core.checks import run_checks
from django.db.models import F
from django.utils import timezone

from celery_ledger.desk import remote
from celery_ledger.models import DurableTask, TaskRate
from celery_ledger.relay import reach
from celery_ledger.relay.relay import Relay
from celery_ledger.rows import ledger, rates
from celery_ledger.testing import drain
from tests import probe
from tests.processes import wait_until
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


@shared_task(name="tests.go_slowly", base=Task, rate_limit="6/m")
def go_slowly(number):
    return number


class AnyQueue:
    """In the broker's place: takes everything, and workers are quick."""

    errors = (ConnectionError,)

    def __init__(self):
        self.names = []

    def depth(self, queue):
        return 0

    def publish(self, queue, name, ids):
        self.names += [name] * len(ids)
        DurableTask.objects.filter(id__in=ids).update(status=Status.SUCCEEDED, lease_until=None)

    def refuse_eviction(self):
        pass

    def close(self):
        pass


@pytest.fixture
def make_relay():
    def make():
        relay = Relay(app, window=4, lease=60)
        relay.broker, relay.broker_errors = AnyQueue(), AnyQueue.errors
        relay.rates.look()
        return relay

    return make


def turn(relay, *, times=3):
    """Return the names of what goes out in a few turns."""
    relay.broker.names.clear()
    for _ in range(times):
        relay.turn()
    return sorted(relay.broker.names)


def pass_time(relay, **how_long):
    """Have that much time passed for the rates."""
    TaskRate.objects.update(counted_at=F("counted_at") - timedelta(**how_long))
    relay.rates._held = dict.fromkeys(relay.rates._held, 0.0)


def begun():
    done = DurableTask.objects.filter(status=Status.SUCCEEDED, name=go_slowly.name)
    return sorted(done.values_list("args__0", flat=True))


@pytest.mark.fault("F73")
def test_f73_a_rate_holds_its_own_task_back_and_no_other(make_relay):
    relay = make_relay()
    for number in range(20):
        go_slowly.delay(number)
    probe.make_collection.delay("behind them")
    assert turn(relay, times=2) == ["tests.go_slowly", "tests.make_collection"]
    assert turn(relay) == []
    assert 8 < relay.rates.pause() <= 10
    pass_time(relay, seconds=10)
    assert turn(relay) == ["tests.go_slowly"]
    pass_time(relay, hours=1)  # Nothing is saved up.
    assert turn(relay) == ["tests.go_slowly"]
    assert len(begun()) == 3


def test_what_waits_goes_by_priority_and_time_and_new_calls_queue_up_behind(make_relay):
    relay = make_relay()
    for number in range(3):
        go_slowly.delay(number)
    go_slowly.apply_async((-1,), priority=0)
    turn(relay)
    go_slowly.delay(3)
    seen = begun()
    for _ in range(4):
        pass_time(relay, seconds=10)
        turn(relay)
        [new] = set(begun()) - set(seen)
        seen.append(new)
    assert (seen[0], set(seen[1:4]), seen[4]) == (-1, {0, 1, 2}, 3)  # Rows of one millisecond are in no order.
    assert not DurableTask.objects.filter(status=Status.PENDING).exists()


def test_what_waits_is_due_about_when_its_turn_comes_and_was_due_when_it_was(make_relay):
    relay = make_relay()
    go_slowly.delay(0)
    go_slowly.delay(1)
    go_slowly.delay(2)
    due = dict(DurableTask.objects.values_list("id", "available_at"))
    turn(relay)
    waiting = list(DurableTask.objects.filter(held_since__isnull=False))
    assert len(waiting) == 2
    for row in waiting:
        assert row.held_since == due[row.id]
        assert timedelta(seconds=20) < row.available_at - timezone.now() < timedelta(seconds=60)
    # A relay that knows no rates publishes it then; and one that knows them goes on as it was.
    DurableTask.objects.filter(held_since__isnull=False).update(available_at="2010-12-01T08:00Z")
    other = make_relay()
    assert turn(other) == []
    assert (
        dict(DurableTask.objects.values_list("id", "held_since")).items()
        >= {row.id: due[row.id] for row in waiting}.items()
    )
    pass_time(other, seconds=10)
    turn(other)
    went = DurableTask.objects.filter(status=Status.SUCCEEDED)
    assert went.count() == 2
    assert all(row.available_at == due[row.id] for row in went)


def test_relays_share_it_whoever_claims(make_relay):
    one, other = make_relay(), make_relay()
    for number in range(6):
        go_slowly.delay(number)
    assert len(turn(one) + turn(other)) == 1
    other.rates.look()
    for relay in (one, other):
        pass_time(relay, seconds=10)
    assert len(turn(one) + turn(other)) == 1


def test_claims_look_no_further_back_for_a_rate_and_find_what_a_lifted_one_lets_go(make_relay, monkeypatch):
    monkeypatch.setattr(reach, "INTERVAL", 600)
    relay = make_relay()
    go_slowly.delay(0)
    go_slowly.delay(1)
    turn(relay)
    seen, claim = [], ledger.claim

    def spy(rooms, **options):
        seen.append(options.get("back"))
        return claim(rooms, **options)

    monkeypatch.setattr(ledger, "claim", spy)
    assert turn(relay) == []
    assert seen
    assert all(back and max(back.values()) < ledger.WHOLE for back in seen)
    DurableTask.objects.filter(held_since__isnull=False).update(held_since=timezone.now() - timedelta(hours=1))
    app.control.rate_limit(go_slowly.name, 0)
    relay.rates.look()
    assert turn(relay) == ["tests.go_slowly"]


def test_a_failure_pauses_and_is_not_taken_for_what_waits(make_relay):
    relay = make_relay()
    go_slowly.delay(0)
    turn(relay)
    DurableTask.objects.update(status=Status.PENDING, available_at=timezone.now() + timedelta(minutes=5))
    pass_time(relay, seconds=10)
    relay.rates.look()
    assert turn(relay) == []


def test_no_more_than_a_rates_worth_waits_at_the_broker(make_relay, monkeypatch):
    relay = make_relay()
    monkeypatch.setattr(relay.broker, "publish", lambda queue, name, ids: relay.broker.names.append(name))
    for number in range(3):
        go_slowly.delay(number)
    assert turn(relay) == ["tests.go_slowly"]
    pass_time(relay, seconds=10)
    assert turn(relay) == []


@pytest.mark.fault("F73")
@pytest.mark.parametrize(
    "say", [app.control.rate_limit, lambda *said: remote.rate_limit(None, *said)], ids=["control", "worker"]
)
def test_f73_another_rate_is_said_as_ever_and_holds_for_good(make_relay, say):
    say("tests.make_collection", "6/m")
    say("tests.go_slowly", 0)
    relay = make_relay()
    for number in range(3):
        go_slowly.delay(number)
        probe.make_collection.delay(str(number))
    assert turn(relay) == ["tests.go_slowly"] * 3 + ["tests.make_collection"]
    due = set(DurableTask.objects.filter(held_since__isnull=False).values_list("held_since", flat=True))
    say("tests.make_collection", None)
    relay.rates.look()
    assert relay.rates.pause() == float("inf")
    assert set(DurableTask.objects.filter(status=Status.PENDING).values_list("available_at", flat=True)) == due
    assert turn(relay) == ["tests.make_collection"] * 2
    say("tests.go_slowly", "0.1/s")
    assert TaskRate.objects.get(name="tests.go_slowly").said is None  # The task's own, and what becomes of it.


def test_what_is_no_rate_is_refused_where_it_is_said_and_named_where_it_is_written(monkeypatch, make_relay):
    for said in ("often", "5/y", -1, "-1/s", float("nan")):
        with pytest.raises(ValueError, match="A rate is"):
            app.control.rate_limit("tests.make_collection", said)
        assert "A rate is" in remote.rate_limit(None, "tests.make_collection", said)["error"]
    assert app.control.rate_limit("tests.make_collection", "5/m", reply=True, destination=["one"]) == [
        {"one": {"ok": "new rate limit set successfully"}}
    ]
    monkeypatch.setattr(probe.ring, "rate_limit", "often")
    assert [message.id for message in run_checks() if "rate_limit" in message.msg] == ["celery_ledger.E017"]
    relay = make_relay()
    probe.ring.delay("bell")
    assert turn(relay) == ["tests.ring"]


def test_a_project_that_wants_none_has_none_and_nothing_is_read_of_them(make_relay, django_assert_num_queries):
    app.conf.worker_disable_rate_limits = True
    try:
        relay = make_relay()
    finally:
        app.conf.worker_disable_rate_limits = False
    for number in range(3):
        go_slowly.delay(number)
    assert turn(relay) == ["tests.go_slowly"] * 3


def test_rates_in_all_of_celerys_words():
    assert [rates.per_second(said) for said in (None, 0, "", 5, 0.5, "10", "10/s", "60/m", "3600/h")] == [
        *(0, 0, 0, 5, 0.5),
        *(10, 10, 1, 1),
    ]


@pytest.mark.processes
def test_two_relays_and_two_workers_begin_no_more_than_the_rate_says(machine, tmp_path):
    """And workers do other things meanwhile."""
    app.control.rate_limit(probe.make_collection.name, "5/s")
    for _ in range(2):
        machine.start_relay()
        machine.start_worker(concurrency=2)
    for number in range(16):
        probe.make_collection.delay(f"shelf {number}")
        probe.name_process.delay(number)
    others = DurableTask.objects.filter(name=probe.name_process.name)
    slow = DurableTask.objects.filter(name=probe.make_collection.name)
    wait_until("others are done", lambda: not others.exclude(status=Status.SUCCEEDED).exists(), seconds=20)
    print(slow.filter(status=Status.SUCCEEDED).count(), "of 16 when all others were done")
    assert slow.exclude(status=Status.SUCCEEDED).exists()
    wait_until("all are done", lambda: not slow.exclude(status=Status.SUCCEEDED).exists(), seconds=30)
    published = sorted(slow.values_list("published_at", flat=True))
    for first, later in zip(published[2:], published[9:], strict=False):  # Seven of them take six fifths of a second.
        assert later - first > timedelta(seconds=1)
    assert drain() == 0
