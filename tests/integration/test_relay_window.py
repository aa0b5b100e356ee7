"""How much the relay lets wait at the broker while workers fall behind."""

import pytest

from tests import probe
from worker.celery import app
from worker.models import DurableTask
from worker.outbox import collecting
from worker.relay import Relay

pytestmark = pytest.mark.django_db(transaction=True)

WINDOW = 3


class SlowQueue:
    """In the broker's place: messages wait until the test takes them."""

    def __init__(self):
        self.messages = []

    def depth(self, queue):
        return len(self.messages) if queue == "default" else 0

    def publish(self, queue, name, ids):
        self.messages.append(ids)


@pytest.fixture
def queue():
    return SlowQueue()


@pytest.fixture
def relay(queue):
    relay = Relay(app, window=WINDOW, lease=60)
    relay.broker = queue
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
