"""Rows that the commit announces to a sleeping relay: their messages are published while they are claimed."""

import threading
import time
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from celery_ledger.desk import queues
from celery_ledger.models import DurableTask
from celery_ledger.relay import reach
from celery_ledger.relay.wakeup import PostgreSQLDoorbell, _read
from celery_ledger.rows import ledger
from celery_ledger.rows.outbox import collecting
from celery_ledger.rows.sql import ASLEEP_LOCK, WAKE_CHANNEL
from tests import probe
from tests.by_hand import publish, take
from tests.integration.celery_ledger.relay.test_relaying import SlowQueue
from tests.processes import database_url, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]
Status = DurableTask.Status
SLEEPING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    f" WHERE datname = current_database() AND locktype = 'advisory' AND objid = {ASLEEP_LOCK} AND granted"
)


@pytest.fixture
def queue():
    return SlowQueue()


@pytest.fixture
def relay(queue):
    from celery_ledger.relay.relay import Relay
    from worker.celery import app

    relay = Relay(app, window=3, lease=60)
    relay.broker, relay.broker_errors = queue, queue.errors
    return relay


@pytest.fixture
def sleeper():
    """A relay that sleeps, for all that those who enqueue can see."""
    with psycopg.connect(database_url(), autocommit=True) as link:
        link.execute(f"SELECT pg_advisory_lock({ASLEEP_LOCK})")
        link.execute(f"LISTEN {WAKE_CHANNEL}")
        yield link


def told(link) -> list[str]:
    return [notify.payload for notify in link.notifies(timeout=2, stop_after=1)]


def claimed(*tasks) -> list[ledger.Claimed]:
    rows = DurableTask.objects.filter(id__in=[task.id for task in tasks])
    return [ledger.Claimed(row.id, row.name, row.queue, row.lapses, row.priority) for row in rows.order_by("id")]


def status_of(task) -> str:
    return DurableTask.objects.get(id=task.id).status


class TestWhatIsTold:
    def test_the_rows_that_are_due_in_the_order_in_which_they_go_out(self, sleeper):
        with transaction.atomic(), collecting():
            later = probe.make_collection.apply_async(["later"], countdown=60)
            usual = probe.make_collection.delay("usual")
            urgent = probe.make_collection.apply_async(["urgent"], priority=0)
        [words] = told(sleeper)
        assert _read(words) == claimed(urgent) + claimed(usual)
        assert str(later.id) not in words

    def test_nothing_of_what_is_too_long_to_be_told(self, sleeper):
        with transaction.atomic(), collecting():
            for number in range(200):
                probe.make_collection.delay(f"shelf {number}")
        assert told(sleeper) == [""]


class TestGoingOut:
    def test_the_message_goes_out_and_the_row_is_published(self, relay, queue):
        task = probe.make_collection.delay("atlases")
        assert relay._publish_news(claimed(task))
        assert queue.messages == [(DurableTask.objects.get().id,)]
        row = DurableTask.objects.get()
        assert (row.status, bool(row.lease_until), bool(row.published_at)) == (Status.PUBLISHED, True, True)
        assert relay.turn() == 0

    def test_a_broker_that_is_away_leaves_the_rows_due(self, relay, queue, monkeypatch):
        task = probe.make_collection.delay("atlases")
        monkeypatch.setattr(queue, "publish", lambda *message: (_ for _ in ()).throw(ConnectionError("refused")))
        assert not relay._publish_news(claimed(task))
        assert (status_of(task), relay._refusals) == (Status.PENDING, 1)

    @pytest.mark.parametrize("kept_by", ["a pause", "a limit", "a rate", "a full window"])
    def test_what_is_kept_back_waits_for_a_turn(self, relay, queue, kept_by):
        full = [()] * 3
        if kept_by == "a pause":
            queues.pause("default")
        elif kept_by == "a limit":
            queues.limit("default", per_second=None, concurrency=2)
        relay.sweep_if_due()
        if kept_by == "a rate":
            relay.rates._rates["tests.make_collection"] = 1.0
        elif kept_by == "a full window":
            relay._waiting["default"] = 3
            queue.messages = full
        task = probe.make_collection.delay("atlases")
        assert not relay._publish_news(claimed(task))
        assert status_of(task) == Status.PENDING
        assert len(queue.messages) == (3 if kept_by == "a full window" else 0)


class TestAMessageThatIsThereFirst:
    @pytest.mark.fault("F196")
    def test_f196_its_row_is_taken_and_its_end_is_recorded(self):
        task = probe.make_collection.delay("atlases")
        assert "1 succeeded" in take(probe.make_collection, [task.id])
        row = DurableTask.objects.get(id=task.id)
        assert (row.status, row.attempts, bool(row.published_at)) == (Status.SUCCEEDED, 1, True)

    def test_a_failure_of_it_counts(self):
        probe.failing["atlases"] = ValueError("torn")
        try:
            task = probe.make_collection.delay("atlases")
            assert "1 failed" in take(probe.make_collection, [task.id])
        finally:
            probe.failing.clear()
        row = DurableTask.objects.get(id=task.id)
        assert (row.status, row.attempts) == (Status.PENDING, 1)

    def test_a_row_with_its_effect_outside_is_taken_too(self):
        task = probe.ring.delay("door")
        assert "1 succeeded" in take(probe.ring, [task.id])
        assert bool(DurableTask.objects.get(id=task.id).published_at)

    def test_one_that_waits_to_be_tried_again_is_none(self):
        probe.failing["atlases"] = ValueError("torn")
        try:
            task = probe.make_collection.delay("atlases")
            take(probe.make_collection, publish())
        finally:
            probe.failing.clear()
        DurableTask.objects.update(available_at=timezone.now() - timedelta(seconds=1))
        assert "1 passed over" in take(probe.make_collection, [task.id])

    def test_one_that_is_due_later_is_none(self):
        task = probe.make_collection.apply_async(["atlases"], countdown=60)
        assert "1 passed over" in take(probe.make_collection, [task.id])

    @pytest.mark.fault("F196")
    def test_f196_a_row_that_a_relay_holds_to_claim_it_is_taken_the_moment_after(self):
        """Or its message would be gone and the row missed only after seconds."""
        task = probe.make_collection.delay("atlases")
        with psycopg.connect(database_url()) as claiming:
            claiming.execute(
                "UPDATE celery_ledger_durabletask SET status = 'published', published_at = now(),"
                " lease_until = now() + interval '1 minute'"
            )
            looked = ledger.passed_over

            def look(ids):
                left = looked(ids)
                claiming.commit()
                return left

            ledger.passed_over = look
            try:
                assert "1 succeeded" in take(probe.make_collection, [task.id])
            finally:
                ledger.passed_over = looked

    def test_a_row_that_another_worker_runs_is_soon_left_to_it(self):
        task = probe.make_collection.delay("atlases")
        publish()
        with psycopg.connect(database_url()) as another:
            another.execute("SELECT 1 FROM celery_ledger_durabletask FOR UPDATE")
            began = time.monotonic()
            assert "1 passed over" in take(probe.make_collection, [task.id])
            assert time.monotonic() - began < 2


def test_a_relay_that_sleeps_is_told_and_publishes_without_a_turn(relay, queue, monkeypatch):
    published_by = []
    publish_news = relay._publish_news

    def note(rows):
        published_by.append([row.name for row in rows])
        relay.stop()
        return publish_news(rows)

    monkeypatch.setattr(relay, "_publish_news", note)

    def enqueue():
        with psycopg.connect(database_url(), autocommit=True) as link:
            wait_until("it sleeps", lambda: link.execute(SLEEPING).fetchone()[0])
        probe.make_collection.delay("atlases")
        connection.close()

    customer = threading.Thread(target=enqueue)
    customer.start()
    relay.run()
    customer.join()
    assert published_by == [["tests.make_collection"]]
    assert len(queue.messages) == 1


@pytest.mark.fault("F216")
def test_f216_rows_that_a_worker_hands_on_go_out_at_once_although_they_were_due_long_ago(relay, queue, monkeypatch):
    monkeypatch.setattr(reach, "INTERVAL", 60.0)
    monkeypatch.setattr(relay.rates, "claim", relay.rates._claim_in_reach)  # As in a project without rates.
    task = probe.make_collection.delay("atlases")
    DurableTask.objects.update(available_at=timezone.now() - timedelta(seconds=30))
    handed_on = []

    def hand_on():
        with psycopg.connect(database_url(), autocommit=True) as link:
            wait_until(
                "it is published and the relay sleeps", lambda: queue.messages and link.execute(SLEEPING).fetchone()[0]
            )
        handed_on.append(ledger.hand_on([task.id]))
        deadline = time.monotonic() + 5
        while len(queue.messages) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        relay.stop()
        connection.close()

    worker = threading.Thread(target=hand_on)
    worker.start()
    relay.run()
    worker.join()
    assert handed_on == [1]
    assert len(queue.messages) == 2


def test_what_was_told_while_a_relay_was_awake_is_not_published_again():
    """A turn has seen it: a second message would have a worker look for nothing, and Flower count the task twice."""
    bell, heard = PostgreSQLDoorbell(), []
    bell.wait(0, lambda: False, heard.extend)  # It listens from here on.
    with psycopg.connect(database_url(), autocommit=True) as another:
        another.execute(f"SELECT pg_advisory_lock({ASLEEP_LOCK})")
        probe.make_collection.delay("atlases")
    bell.wait(0.2, lambda: False, heard.extend)
    assert heard == []
