"""PostgreSQL's clock is set back: due tasks stay due, and later ones stay scheduled."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.db.models.functions import Now

from celery_ledger import clock
from celery_ledger.desk import queues
from celery_ledger.models import Canary, DurableTask, Heartbeat, QueueLimit
from celery_ledger.relay import limits
from celery_ledger.relay.relay import Relay
from celery_ledger.rows.outbox import collecting
from tests import probe
from tests.integration.celery_ledger.relay.test_relaying import SlowQueue
from worker.celery import app

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

SHIFTED = """
    CREATE SCHEMA shifted;
    CREATE TABLE shifted.step (seconds float8 NOT NULL);
    INSERT INTO shifted.step VALUES (0);
    CREATE FUNCTION shifted.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS
        'SELECT pg_catalog.statement_timestamp() - (SELECT seconds FROM shifted.step) * interval ''1 second''';
    SET search_path = shifted, pg_catalog, public;
"""


def execute(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture(autouse=True)
def shifted():
    """A clock of the test's own, for this connection: its schema is asked before PostgreSQL's."""
    execute(*filter(str.strip, SHIFTED.split(";\n")))
    yield
    execute("RESET search_path", "DROP SCHEMA shifted CASCADE")


def set_back(seconds):
    execute(f"UPDATE shifted.step SET seconds = {seconds}")


def look_again(relay):
    relay._next_sweep = 0
    relay.sweep_if_due()


@pytest.fixture
def relay():
    relay = Relay(app, window=100, lease=60)
    relay.broker = SlowQueue()
    relay.broker_errors = relay.broker.errors
    relay.sweep_if_due()
    return relay


@pytest.mark.fault("F92")
def test_f92_what_was_due_before_the_clock_was_set_back_goes_out_at_once(relay):
    with collecting():
        for number in range(3):
            probe.make_collection.delay(f"shelf {number}")
    later = probe.make_collection.apply_async(("later",), countdown=30)
    set_back(120)
    assert relay.turn() == 0, "the fault did not land"
    look_again(relay)
    assert relay.turn() == 3
    assert DurableTask.objects.get(status="pending").id == UUID(later.id)
    look_again(relay)
    assert relay.turn() == 0
    set_back(0)  # It goes on, a little ahead: nothing more happens.
    look_again(relay)
    assert relay.turn() == 0


@pytest.mark.fault("F92")
def test_f92_a_relay_that_is_started_after_the_step_knows_of_it_from_the_others(relay):
    Heartbeat.objects.create(process="worker 1 at elsewhere", kind="worker", state="ok", beaten_at=clock.now())
    probe.make_collection.delay("shelf")
    set_back(120)
    new = Relay(app, window=100, lease=60)
    new.broker, new.broker_errors = relay.broker, relay.broker_errors
    new.sweep_if_due()
    assert new.turn() == 1
    assert not Heartbeat.objects.filter(beaten_at__gt=Now()).exists()


@pytest.mark.fault("F92")
def test_f92_leases_limits_and_canaries_do_not_wait_for_the_clock_to_come_again(relay):
    queues.limit("default", per_second=1, concurrency=None)
    QueueLimit.objects.update(counted_at=Now(), allowance=0)
    Canary.objects.update(sent_at=Now(), seen_at=Now() - timedelta(seconds=1))
    probe.make_collection.apply_async(("lost",), queue="analytics")
    assert relay.turn() == 1
    set_back(120)
    look_again(relay)
    row = DurableTask.objects.get()
    assert row.published_at <= clock.now()
    assert row.lease_until <= clock.now() + timedelta(seconds=60)
    assert QueueLimit.objects.get().counted_at <= clock.now()
    assert limits.limited_queues() == {"default"}
    assert not Canary.objects.filter(sent_at__gt=Now()).exists()


def test_time_that_passes_while_nobody_looks_is_no_step(relay, caplog):
    for _ in range(3):
        look_again(relay)
    set_back(-300)  # Ahead.
    look_again(relay)
    assert "set back" not in caplog.text
