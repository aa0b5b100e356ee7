"""What the relay lets wait at the broker, while workers fall behind or the broker is away."""

import pytest
from redis.exceptions import ResponseError

from tests import probe
from worker import ledger, queues
from worker.broker import _refuse_eviction
from worker.celery import app
from worker.models import DurableTask, QueueSample
from worker.outbox import collecting
from worker.relay import Relay

pytestmark = pytest.mark.django_db(transaction=True)

WINDOW = 3


class SlowQueue:
    """In the broker's place: messages wait until the test takes them."""

    def __init__(self):
        self.messages = []

    errors = (ConnectionError,)

    def depth(self, queue):
        return len(self.messages) if queue == "default" else 0

    def publish(self, queue, name, ids):
        if ids:  # Canaries have none.
            self.messages.append(ids)

    def refuse_eviction(self):
        pass

    def close(self):
        pass


@pytest.fixture
def queue():
    return SlowQueue()


@pytest.fixture
def relay(queue):
    relay = Relay(app, window=WINDOW, lease=60)
    relay.broker, relay.broker_errors = queue, queue.errors
    return relay


def fill_one_by_one(task, relay):
    for number in range(WINDOW):
        task.delay(f"first {number}")
        relay.turn()


def take_one_and_turn(queue, relay):
    queue.messages.pop(0)
    relay.turn()
    return len(queue.messages)


def test_a_window_of_small_messages_is_soon_one_of_large(queue, relay):
    fill_one_by_one(probe.make_collections, relay)
    assert [len(ids) for ids in queue.messages] == [1, 1, 1]
    with collecting():
        for number in range(250):
            probe.make_collections.delay(f"then {number}")
    depths = [take_one_and_turn(queue, relay) for _ in range(9)]
    assert max(depths) == WINDOW
    assert [len(ids) for ids in queue.messages] == [50, 50, 38]
    assert not DurableTask.objects.filter(status="pending").exists()


def test_what_travels_alone_does_not_overfill_it(queue, relay):
    fill_one_by_one(probe.make_collection, relay)
    with collecting():
        for number in range(100):
            probe.make_collection.delay(f"then {number}")
    assert {take_one_and_turn(queue, relay) for _ in range(10)} == {WINDOW}


@pytest.mark.parametrize(("window", "lease"), [(0, 60), (3, 5)])
def test_a_window_or_a_lease_that_makes_no_sense_is_refused(window, lease):
    with pytest.raises(ValueError, match="must be"):
        Relay(app, window=window, lease=lease)


def test_a_paused_queue_has_no_room_and_a_limited_one_what_its_limit_leaves(queue, relay):
    for number in range(3):
        probe.make_collection.delay(f"first {number}")
    queues.pause("default")
    relay.sweep_if_due()
    relay.turn()
    assert queue.messages == []
    queues.resume("default")
    queues.limit("default", per_second=None, concurrency=2)
    relay._next_sweep = 0
    relay.sweep_if_due()
    relay.turn()
    assert [len(ids) for ids in queue.messages] == [1, 1]


def test_what_the_broker_refuses_waits_in_the_ledger_and_goes_out_when_it_is_back(queue, relay, caplog, monkeypatch):
    for number in range(3):
        probe.make_collection.delay(f"first {number}")
    with monkeypatch.context() as patch:
        patch.setattr(queue, "publish", lambda *message: (_ for _ in ()).throw(ConnectionError("refused")))
        assert relay.turn() == 0
        assert relay.turn() == 0
    assert DurableTask.objects.filter(status="pending", lease_until=None).count() == 3
    assert caplog.text.count("The broker is away or refuses") == 1
    with caplog.at_level("INFO", logger="worker.relay"):
        assert relay.turn() == 3
    assert "The broker is back." in caplog.text


def test_a_broker_that_is_away_says_nothing_of_its_depths(queue, relay, monkeypatch):
    monkeypatch.setattr(queue, "depth", lambda name: (_ for _ in ()).throw(ConnectionError("refused")))
    relay.sweep_if_due()
    assert QueueSample.objects.exists()
    assert not QueueSample.objects.exclude(messages=None).exists()


def test_a_message_that_an_empty_broker_does_not_have_any_more_goes_out_again(queue, relay, caplog):
    probe.make_collection.delay("lost")
    relay.turn()
    queue.messages.clear()
    DurableTask.objects.update(published_at="2010-12-01T08:00Z")
    relay.sweep_if_due()
    assert "1 tasks went unheard of and are published again." in caplog.text
    relay.turn()
    assert len(queue.messages) == 1


def test_without_room_nothing_is_claimed(relay):
    probe.make_collection.delay("waits")
    assert ledger.claim({"default": 0}, lease=60, limit=10) == []


@pytest.mark.parametrize("what", ["refuse_eviction", "depth"])
def test_a_broker_that_goes_away_while_a_window_is_full_is_waited_for(queue, relay, monkeypatch, caplog, what):
    fill_one_by_one(probe.make_collection, relay)
    probe.make_collection.delay("waits")
    with monkeypatch.context() as patch:
        patch.setattr(queue, what, lambda *call: (_ for _ in ()).throw(ConnectionError("refused")))
        relay.sweep_if_due()
        assert relay.turn() == 0
    assert "The broker is away or refuses" in caplog.text
    queue.messages.clear()
    assert relay.turn() == 1


def test_a_redis_that_does_not_tell_its_policy_is_believed_with_a_word(caplog):
    class Managed:
        def info(self, section):
            raise ResponseError("unknown command 'INFO'")

    _refuse_eviction(Managed())
    assert "must be noeviction" in caplog.text


def test_a_connection_that_cannot_even_be_closed_stops_no_relay(queue, relay, monkeypatch):
    def refuse(*call):
        raise ConnectionError("refused")

    probe.make_collection.delay("waits")
    with monkeypatch.context() as patch:
        patch.setattr(queue, "publish", refuse)
        patch.setattr(queue, "close", refuse)
        assert relay.turn() == 0
    assert relay.turn() == 1
