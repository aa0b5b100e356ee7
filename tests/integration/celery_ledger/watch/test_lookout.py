"""Relays look for workers, and workers for relays: who finds none says so, one for all of its kind."""

import threading

import pytest
from django.db.models.functions import Now

from celery_ledger.events import processes_missing
from celery_ledger.models import Heartbeat
from celery_ledger.watch import heartbeats, lookout
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
Kind = Heartbeat.Kind


@pytest.fixture
def clock(monkeypatch):
    """The time that lookouts see: a list of one number."""
    now = [1000.0]
    monkeypatch.setattr(lookout.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def said():
    said = []

    def hear(sender, kind, **_):
        said.append((kind, threading.current_thread().name))

    processes_missing.connect(hear, dispatch_uid="tests.hear")
    yield said
    processes_missing.disconnect(dispatch_uid="tests.hear")


@pytest.fixture
def relay():
    heartbeats.beat(Kind.RELAY)
    return lookout.Lookout(Kind.RELAY, Kind.WORKER)


def look(relay, clock, *, after=0.0):
    clock[0] += after
    relay.look()
    if relay._speaker is not None:
        relay._speaker.join(timeout=10)


def test_what_is_missing_for_twenty_seconds_is_said_every_half_minute(relay, clock, said):
    look(relay, clock)
    look(relay, clock, after=19)
    assert said == []
    look(relay, clock, after=1)
    assert said == [("worker", "lookout")]
    look(relay, clock, after=29)
    assert len(said) == 1
    look(relay, clock, after=1)
    assert len(said) == 2


def test_who_came_back_is_missed_from_the_beginning(relay, clock, said):
    look(relay, clock)
    look(relay, clock, after=15)
    heartbeats.beat(Kind.WORKER)
    look(relay, clock, after=10)
    heartbeats.end(Kind.WORKER)
    look(relay, clock, after=5)
    look(relay, clock, after=19)
    assert said == []


def test_one_of_several_speaks(relay, clock, said):
    other = Heartbeat.objects.create(process="relay 0 at another", kind=Kind.RELAY, state="ok")
    look(relay, clock)
    look(relay, clock, after=60)
    assert said == []
    Heartbeat.objects.filter(pk=other.pk).update(beaten_at=Now() - heartbeats.SILENT_AFTER * 2)
    look(relay, clock, after=5)
    assert len(said) == 1


def test_a_receiver_that_takes_long_is_not_called_again_meanwhile(relay, clock, said):
    go_on = threading.Event()
    calls = []

    def wait(sender, **_):
        calls.append(1)
        go_on.wait(timeout=20)

    processes_missing.connect(wait, dispatch_uid="tests.wait")
    try:
        look_only = relay.look
        look_only()
        clock[0] += 20
        look_only()
        wait_until("it is called", lambda: calls)
        clock[0] += 100
        look_only()
        assert calls == [1]
    finally:
        go_on.set()
        relay._speaker.join(timeout=10)
        processes_missing.disconnect(dispatch_uid="tests.wait")
