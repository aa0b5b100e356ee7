"""What a worker's channel to Redis writes down of the messages that it takes."""

import pytest
import redis
from kombu import Connection, Consumer, Producer, Queue

from celery_ledger.relay.broker import keep_no_copies

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]


@pytest.fixture
def broker(machine):
    if machine.uses_rabbitmq:
        pytest.skip("It is about Redis.")
    client = redis.Redis(port=machine.redis_port, db=9)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def taken(broker, machine):
    """A channel, and a message of each kind that it has taken."""
    with Connection(f"redis://127.0.0.1:{machine.redis_port}/9") as connection:
        channel = connection.default_channel
        keep_no_copies(channel, lambda name: name == "durable")
        queue = Queue("copies", channel=channel)
        queue.declare()
        messages = {}
        with Consumer(
            channel, queues=[queue], on_message=lambda message: messages.update({message.headers["task"]: message})
        ):
            for name in ("durable", "plain"):
                Producer(channel).publish([], routing_key="copies", headers={"task": name})
            while len(messages) < 2:
                connection.drain_events(timeout=10)
        yield channel, messages


def copies(broker) -> int:
    return broker.hlen("unacked")


def test_a_copy_is_kept_of_what_is_not_durable(broker, taken):
    _, messages = taken
    assert copies(broker) == 1
    for message in messages.values():
        message.ack()
    assert (copies(broker), broker.llen("copies")) == (0, 0)


def test_what_was_taken_and_not_acknowledged_goes_back_at_the_end(broker, taken):
    channel, _ = taken
    channel.close()
    assert (broker.llen("copies"), copies(broker)) == (2, 0)


@pytest.mark.parametrize("requeue", [True, False])
def test_what_is_rejected_goes_back_only_if_that_is_wanted(broker, taken, requeue):
    _, messages = taken
    messages["durable"].reject(requeue=requeue)
    assert broker.llen("copies") == requeue
