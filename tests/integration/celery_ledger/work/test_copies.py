"""Which messages a worker's channel to Redis copies when it takes them."""

import json
from contextlib import contextmanager

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
    with taking(machine, "durable", "plain") as (channel, messages):
        yield channel, dict(zip(("durable", "plain"), messages, strict=True))


@contextmanager
def taking(machine, *names, tag=None):
    """A channel, and the messages of tasks of these names that it has taken; all have one ``tag``, if it is given."""
    with Connection(f"redis://127.0.0.1:{machine.redis_port}/9") as connection:
        channel = connection.default_channel
        keep_no_copies(channel, lambda name: name == "durable")
        queue = Queue("copies", channel=channel)
        queue.declare()
        messages = []
        with Consumer(channel, queues=[queue], on_message=messages.append):
            for name in names:
                Producer(channel).publish([], routing_key="copies", headers={"task": name})
            if tag is not None:
                forge(channel.client, tag)
            while len(messages) < len(names):
                connection.drain_events(timeout=10)
        yield channel, messages


def forge(client, tag) -> None:
    """Have all messages that wait carry one tag."""
    waiting = [json.loads(message) for message in client.lrange("copies", 0, -1)]
    client.delete("copies")
    for message in waiting:
        message["properties"]["delivery_tag"] = tag
        client.rpush("copies", json.dumps(message))


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


@pytest.mark.fault("F77")
@pytest.mark.parametrize("names", [("durable", "plain"), ("plain", "durable")])
def test_f77_no_copy_is_left_of_messages_that_were_forged_with_one_tag(broker, machine, names):
    with taking(machine, *names, tag=7) as (channel, messages):
        messages[0].ack()
        channel.close()
        assert copies(broker) == 0
    with taking(machine, *names, tag=7) as (channel, _):
        channel.close()
        assert copies(broker) == 0
