"""Queues are those of the project: the app's, and those that calls name if Celery may create them."""

import random
import uuid
from datetime import timedelta

import kombu
import pytest
from django.db import connection
from django.db.models import F
from kombu import Queue

from celery_ledger.desk import queues
from celery_ledger.models import Canary, DurableTask
from celery_ledger.relay import relay as relaying
from celery_ledger.relay.broker import Broker, RefusedError
from celery_ledger.relay.relay import Relay
from celery_ledger.rows import ledger
from celery_ledger.watch import canaries, samples
from tests.package.strangers import make_app  # noqa: F401 - a fixture
from worker.celery import app as shop

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


def put(*queues_of_rows: str, status: Status = Status.PENDING) -> list[uuid.UUID]:
    rows = [
        DurableTask(name="tests.make_collection", queue=queue, args=["a"], status=status) for queue in queues_of_rows
    ]
    return [row.pk for row in DurableTask.objects.bulk_create(rows)]


@pytest.fixture
def anything():
    """A name that no other test has."""
    return f"anything-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make_relay(make_app):  # noqa: F811
    """Return what makes a relay of a stranger's app at the real broker."""
    made = []

    def make(**conf):
        app = make_app(broker=shop.conf.broker_url, **conf)
        made.append(Relay(app, window=100, lease=60))
        return made[-1]

    yield make
    for relay in made:
        relay.broker.close()


class TestNamesOfWaitingRows:
    def test_it_finds_those_that_are_not_known(self):
        put("b", "b", "bb", "a", "c", "c")
        put("done", status=Status.SUCCEEDED)
        assert sorted(ledger.unknown_queues([])) == ["a", "b", "bb", "c"]
        assert sorted(ledger.unknown_queues(["b", "zz", "a0"])) == ["a", "bb", "c"]
        assert ledger.unknown_queues(["c", "bb", "b", "a"]) == []

    def test_however_the_database_sorts(self):
        names = ["a", "A", "b-1", "b_1", "B.1", "ä", "é", "~", "0", "10", "2", "queue one", "Ωmega"]
        put(*names, *names)
        for _ in range(30):
            known = random.sample(names, random.randrange(len(names)))
            assert sorted(ledger.unknown_queues(known)) == sorted(set(names) - set(known))

    def test_at_most_so_many_at_a_time(self, monkeypatch):
        monkeypatch.setattr(ledger, "MOST_UNKNOWN_QUEUES", 10)
        put(*[f"tenant-{number}" for number in range(25)])
        known: list[str] = []
        while found := ledger.unknown_queues(known):
            known += found
        assert len(known) == 25

    @pytest.mark.postgresql
    def test_very_many_rows_of_one_queue_cost_nothing(self):
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO celery_ledger_durabletask (id, name, queue, args, kwargs)
                SELECT gen_random_uuid(), 'tests.make_collection', 'm', '["shelf"]', '{}' FROM generate_series(1, 50000)
                """
            )
            put("n", "z")
            cursor.execute("ANALYZE celery_ledger_durabletask")
            sql = ledger.statements(connection.vendor).unknown_queues
            cursor.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", {"queues": ["celery", "m", "z"], "limit": 1_000}
            )
            ((plan,),) = cursor.fetchone()
        assert plan["Plan"]["Actual Rows"] == 1
        assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 60


class TestARelay:
    def test_a_project_that_says_nothing_has_celerys_one_queue(self, make_relay):
        relay = make_relay()
        assert samples.queue_names() == ["celery"]
        assert relay._queues == ["celery"]

    def test_publishes_what_names_a_queue_that_nobody_declared(self, make_relay, anything):
        relay = make_relay()
        [id] = put(anything)
        relay.sweep_if_due()
        assert relay.turn() == 1
        assert relay.broker.depth(anything) == 1
        put(anything)
        assert relay._work_is_due()
        assert relay.turn() == 1
        assert relay.broker.depth(anything) == 2
        assert DurableTask.objects.get(pk=id).status == Status.PUBLISHED

    def test_leaves_it_to_the_next_release_where_queues_must_be_declared(self, make_relay, anything):
        relay = make_relay(task_create_missing_queues=False)
        put(anything)
        relay.sweep_if_due()
        assert relay.turn() == 0
        assert samples.queue_names() == ["celery"]

    def test_brings_back_what_was_lost_in_it_before_this_relay_began(self, make_relay, anything):
        relay = make_relay()
        [id] = put(anything, status=Status.PUBLISHED)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE celery_ledger_durabletask SET published_at = '2010-12-01', lease_until = '2100-12-01'"
            )
        for _ in range(2):
            relay._next_sweep = 0
            relay.sweep_if_due()
        assert DurableTask.objects.get(pk=id).status == Status.PENDING
        assert relay.turn() == 1

    def test_says_which_queues_it_serves_and_people_can_pause_them(self, make_relay, anything):
        relay = make_relay(task_queues=[Queue("one"), Queue("two")])
        with pytest.raises(ValueError, match="There is no queue"):
            queues.pause(anything)
        put(anything)
        relay.sweep_if_due()
        relay._said = ""
        relay._say_if_due()
        assert samples.queue_names() == ["one", "two", anything]
        assert [state.queue for state in queues.queue_states()] == ["one", "two", anything]
        queues.pause(anything)
        relay._next_sweep = 0
        relay.sweep_if_due()
        assert relay.turn() == 0

    def test_leaves_a_queue_that_is_of_no_use_any_more_and_comes_back_to_it(self, make_relay, anything, monkeypatch):
        relay = make_relay()
        put(anything)
        relay.sweep_if_due()
        relay.turn()
        monkeypatch.setattr(relaying, "UNUSED_AFTER", -1.0)
        relay._look_for_queues()
        assert relay._queues == ["celery"]
        monkeypatch.undo()
        put(anything)
        relay._look_for_queues()
        assert relay.turn() == 1

    def test_of_two_relays_both_serve_it(self, make_relay, anything):
        relays = [make_relay(), make_relay()]
        put(*[anything] * 2)
        for relay in relays:
            relay.sweep_if_due()
        assert sum(relay.turn() for relay in relays) == 2


@pytest.mark.fault("F128")
@pytest.mark.skipif(not shop.conf.broker_url.startswith("amqp"), reason="only RabbitMQ refuses a queue")
def test_a_queue_that_is_there_with_other_arguments_keeps_no_other_from_being_served(make_relay, anything):
    with kombu.Connection(shop.conf.broker_url) as link:
        link.channel().queue_declare(anything, durable=True, auto_delete=False, arguments={"x-max-length": 7})
    relay = make_relay()
    with pytest.raises(RefusedError):
        relay.broker.depth(anything)
    other = f"{anything}-other"
    put(anything, other)
    relay.sweep_if_due()
    relay.turn()
    assert relay.turn() + relay.broker.depth(other) >= 1
    assert relay.broker.depth(other) == 1
    assert set(relay._refused) == {anything}
    assert DurableTask.objects.get(queue=anything).status == Status.PENDING
    assert f"the broker refuses {anything}" in relay._state()


def test_a_queue_is_declared_as_its_worker_declares_it(make_app, anything):  # noqa: F811
    app = make_app(broker=shop.conf.broker_url, task_queues=[Queue(anything, max_priority=5, message_ttl=3600.0)])
    with app.connection_for_write() as link:
        app.amqp.queues[anything].bind(link.default_channel).declare()
    with Broker(app) as broker:
        assert broker.depth(anything) == 0


def test_canaries_do_not_pile_up_in_a_queue_that_nobody_consumes():
    canaries.due(["nobodys"])
    Canary.objects.update(sent_at=F("sent_at") - timedelta(days=1), repeated_at=F("repeated_at") - timedelta(days=1))
    minutes = []
    for minute in range(24 * 60):
        moved = timedelta(minutes=1)
        Canary.objects.update(
            sent_at=F("sent_at") - moved, repeated_at=F("repeated_at") - moved, seen_at=F("seen_at") - moved
        )
        if canaries.due(["nobodys"]):
            minutes.append(minute)
    assert 5 <= len(minutes) <= 13
