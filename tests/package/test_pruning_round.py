"""Relays prune, a moment at a time and one at a time: no project needs a schedule for it."""

import time
import uuid
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from celery_ledger.desk import pruner
from celery_ledger.models import DurableTask
from celery_ledger.relay.relay import Relay
from celery_ledger.relay.rounds import rounds
from celery_ledger.rows.sql import PRUNER_LOCK
from celery_ledger.uuid7 import first_uuid7_at
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


def put_ended(count: int, *, days_ago: float) -> None:
    ended = timezone.now() - timedelta(days=days_ago)
    first = first_uuid7_at(ended).int
    DurableTask.objects.bulk_create(
        DurableTask(
            id=uuid.UUID(int=first + number), name="tests.x", queue="default", status="succeeded", completed_at=ended
        )
        for number in range(count)
    )


@pytest.fixture
def relay():
    relay = Relay(app, window=3, lease=60)
    [known] = [round for round in rounds() if round.what == "pruning"]
    relay._rounds = {replace(known, make=pruner.Pruning().make): 0.0}
    yield relay
    relay.broker.close()


def make_rounds(relay):
    """Make the round, and return the seconds until the relay prunes again."""
    relay.make_rounds()
    [(round, at)] = relay._rounds.items()
    relay._rounds[round] = 0.0
    return at - time.monotonic()


def test_what_ended_longer_ago_than_the_retention_time_goes(relay, settings):
    settings.LEDGER_RETENTION_DAYS = 3
    put_ended(2, days_ago=4)
    put_ended(1, days_ago=2)
    while make_rounds(relay) < 60:
        pass
    assert DurableTask.objects.count() == 1


def test_it_publishes_between_moments_of_pruning(relay, monkeypatch):
    monkeypatch.setattr(pruner, "MOMENT", -1)
    monkeypatch.setattr(pruner, "FIRST", 10)
    monkeypatch.setattr(pruner, "_size_after", lambda *_: 10)
    put_ended(35, days_ago=30)
    left = []
    while DurableTask.objects.exists():
        assert make_rounds(relay) < 60
        left.append(DurableTask.objects.count())
    assert left == [25, 15, 5, 0]
    assert make_rounds(relay) > 500


def test_an_idle_relay_goes_on_with_it_without_waiting_for_its_next_sweep(relay, monkeypatch):
    monkeypatch.setattr(pruner, "MOMENT", -1)
    monkeypatch.setattr(pruner, "FIRST", 10)
    monkeypatch.setattr(pruner, "_size_after", lambda *_: 10)
    monkeypatch.setattr(relay.broker, "refuse_eviction", lambda: None)
    put_ended(35, days_ago=30)
    relay.sweep_if_due()
    relay._next_sweep = time.monotonic() + 600
    for _ in range(4):
        relay._go_round()
    assert not DurableTask.objects.exists()


@pytest.mark.postgresql
def test_one_relay_at_a_time(relay):
    put_ended(2, days_ago=30)
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute(f"SELECT pg_advisory_xact_lock({PRUNER_LOCK})")
        make_rounds(relay)
        assert DurableTask.objects.count() == 2
    make_rounds(relay)
    assert not DurableTask.objects.exists()


def test_one_that_fails_is_a_trouble_of_the_relay_and_begins_anew(relay, settings):
    put_ended(2, days_ago=30)
    settings.LEDGER_RETENTION_DAYS = "a week"
    make_rounds(relay)
    assert relay._state() == "pruning fails"
    del settings.LEDGER_RETENTION_DAYS
    make_rounds(relay)
    assert not DurableTask.objects.exists()
    assert "pruning" not in relay._state()
