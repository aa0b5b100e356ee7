"""No long-running process ends because of one exception: each failing part is reported, and the rest continues."""

import threading
from types import SimpleNamespace

import pytest
from django.db import DataError, OperationalError, connection

from celery_ledger import clock, supervision
from celery_ledger.contrib.beat import due_times
from celery_ledger.contrib.beat.schedule import LedgerScheduler
from celery_ledger.models import DurableTask
from celery_ledger.relay import limits, relay
from celery_ledger.relay.broker import RefusedError
from celery_ledger.relay.relay import Relay
from celery_ledger.rows import ledger
from celery_ledger.rows.outbox import collecting
from celery_ledger.watch import canaries, heartbeats, samples, watchdog
from celery_ledger.work import bootsteps
from tests import probe
from tests.integration.celery_ledger.relay.test_relaying import SlowQueue
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue():
    return SlowQueue()


@pytest.fixture
def ours(queue, monkeypatch):
    """A relay that works without pauses, and stops when it has published something."""
    monkeypatch.setattr(relay, "TROUBLE_PAUSE", 0)
    ours = Relay(app, window=50, lease=60)
    ours.broker, ours.broker_errors = queue, queue.errors
    publish = queue.publish

    def publish_and_stop(name, task, ids):
        publish(name, task, ids)
        if ids:
            ours.stop()

    queue.publish = publish_and_stop
    return ours


def poison(error, *, times=None):
    """Return something that raises ``error`` whenever it is called, or so many times."""
    left = [times]

    def poisoned(*arguments, **options):
        if left[0] == 0:
            return []
        if left[0] is not None:
            left[0] -= 1
        raise error

    return poisoned


STEPS = {
    "paused_queues": (ledger, "paused_queues", "reading the switches"),
    "limited_queues": (limits, "limited_queues", "reading the switches"),
    "waiting_queues": (ledger, "waiting_queues", "republishing lost tasks"),
    "lapse_expired": (ledger, "lapse_expired", "republishing lost tasks"),
    "samples": (samples, "take", "taking samples"),
    "canaries": (canaries, "due", "sending canaries"),
    "schedules": (due_times, "served_schedules", "checking schedules"),
}


@pytest.mark.parametrize(("module", "name", "step"), STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("error", [RuntimeError("poison"), DataError("poison")], ids=["an error", "a statement's"])
def test_a_step_of_the_relay_that_always_fails_is_named_and_tasks_go_out(ours, monkeypatch, module, name, step, error):
    monkeypatch.setattr(module, name, poison(error))
    monkeypatch.setattr(
        ours._leases, "look", lambda lease: None
    )  # All steps are made, whether there are leases or not.
    ours._rounds = dict.fromkeys(ours._rounds, 0.0)
    probe.make_collection.delay("shelf")
    ours.run()
    assert DurableTask.objects.get().status == "published"
    assert ours._state() == f"{step} fails"


def test_what_a_relay_cannot_do_is_said_by_its_heartbeat_once_and_by_the_watchdog(ours, monkeypatch, caplog):
    monkeypatch.setattr(samples, "take", poison(RuntimeError("poison")))
    for _ in range(3):
        ours._next_sweep = ours._next_sample = ours._next_canaries = 0
        ours.sweep_if_due()
    assert caplog.text.count("taking samples failed") == 1
    [problem] = watchdog.of_relays()
    assert problem.text.endswith(": taking samples fails")
    monkeypatch.undo()
    ours._next_sweep = ours._next_sample = ours._next_canaries = 0
    ours.sweep_if_due()
    assert watchdog.of_relays() == []


@pytest.mark.parametrize("error", [RuntimeError("poison"), DataError("poison")], ids=["an error", "a statement's"])
def test_a_turn_and_a_wait_that_fail_are_made_again(ours, monkeypatch, error):
    claim, wait = ledger.claim, poison(error, times=2)
    claims = poison(error, times=2)
    monkeypatch.setattr(ledger, "claim", lambda *rooms, **how: claims() or claim(*rooms, **how))
    monkeypatch.setattr(
        ours.doorbell, "wait", lambda seconds, due, told: wait() or probe.make_collection.delay("shelf")
    )
    ours.run()
    assert DurableTask.objects.get().status == "published"
    assert not ours.troubles.has("a turn")


def test_a_heartbeat_that_cannot_be_said_keeps_no_relay_from_its_work(ours, monkeypatch):
    monkeypatch.setattr(heartbeats, "beat", poison(RuntimeError("poison")))
    probe.make_collection.delay("shelf")
    ours.run()
    assert DurableTask.objects.get().status == "published"


def test_a_relay_that_is_told_to_stop_while_its_database_is_away_stops(ours, monkeypatch):
    monkeypatch.setattr(heartbeats, "end", poison(OperationalError("away")))
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    ours.stop()
    ours.run()


@pytest.mark.parametrize("task", [probe.make_collection, probe.make_collections], ids=["alone", "of a batch"])
def test_a_row_that_cannot_be_published_is_refused_alone_and_the_others_go_out(ours, queue, task):
    with collecting():
        tasks = [task.delay(f"shelf {number}") for number in range(9)]
    poisoned = tasks[4].id
    publish = queue.publish

    def refuse_it(name, task, ids):
        if poisoned in map(str, ids):
            raise ValueError("too large")
        publish(name, task, ids)

    queue.publish = refuse_it
    ours.run()
    row = DurableTask.objects.get(status="pending")
    assert str(row.id) == poisoned
    assert row.last_error == "could not be published: ValueError: too large"
    assert not ledger.any_due(["default"]), "it must not come again at once"
    assert sum(map(len, queue.messages)) == 8
    assert ours._state() == "a task cannot be published"


@pytest.mark.fault("F87")
def test_f87_a_queue_that_the_broker_refuses_rests_and_the_others_go_on(ours, queue, monkeypatch):
    """As a nack of RabbitMQ, and not as a broker that is away."""
    monkeypatch.setattr(supervision, "REFUSED_PAUSES", (60,))
    publish = queue.publish

    def refuse_default(name, task, ids):
        if name == "default":
            raise RefusedError("full")
        publish(name, task, ids)

    queue.publish = refuse_default
    with collecting():
        for number in range(3):
            probe.make_collection.delay(f"shelf {number}")
        probe.make_collection.apply_async(("elsewhere",), queue="analytics")
    assert ours.turn() == 1
    assert DurableTask.objects.filter(status="pending", lease_until=None, queue="default").count() == 3
    assert ours._state() == "the broker refuses default"
    assert not ours._work_is_due(), "a queue that rests must not keep the relay awake"
    queue.publish = publish
    assert ours.turn() == 0
    ours._refused["default"].until = 0
    assert ours._work_is_due()
    assert (ours.turn(), ours.turn()) == (1, 2)
    assert ours._state() == heartbeats.OK


@pytest.mark.parametrize("error", [RuntimeError("poison"), DataError("poison")], ids=["an error", "a statement's"])
def test_a_worker_s_heartbeat_goes_on_after_a_failure(monkeypatch, error):
    monkeypatch.setattr(bootsteps, "INTERVAL", 0.01)
    fails = poison(error, times=2)
    heard = threading.Event()
    monkeypatch.setattr(heartbeats, "beat", lambda *kind, **figures: fails() or heard.set())
    worker = SimpleNamespace(app=app, has_broker=True, loop_went_round=float("inf"))
    step = bootsteps.HeartbeatStep(worker)
    worker.loop_went_round = float("inf")
    step.start(worker)
    assert heard.wait(10)
    step.stop(worker)
    [thread] = step._threads
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("part", watchdog.LOOKS)
def test_what_the_watchdog_cannot_look_at_hides_nothing_else(monkeypatch, part):
    monkeypatch.setitem(watchdog.LOOKS, part, poison(RuntimeError("poison")))
    monkeypatch.setattr(clock, "skew", lambda: 5.0)
    found = {problem.part: problem.text for problem in watchdog.problems()}
    assert found[part] == "it cannot be checked: RuntimeError: poison"
    assert set(found) >= {"relay", "workers", "clock"}


def test_a_turn_of_beat_that_fails_is_made_again(monkeypatch):
    scheduler = LedgerScheduler(app=app, lazy=True)
    scheduler._finalize.cancel()
    monkeypatch.setattr(due_times, "served_schedules", poison(RuntimeError("poison")))
    assert scheduler.tick() == scheduler.max_interval
