"""What an attacker with access to the broker can and cannot do to a real worker."""

import base64
import json
import pickle
import uuid

import pytest
import redis

from tests.processes import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]


class Bomb:
    """Makes a file wherever it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_is_dropped_and_never_opened(machine, tmp_path):
    if machine.uses_rabbitmq:
        pytest.skip("It speaks Redis.")
    proof = tmp_path / "it-ran"
    body = base64.b64encode(pickle.dumps([[], {}, Bomb(str(proof))])).decode()
    message = {
        "body": body,
        "content-encoding": "binary",
        "content-type": "application/x-python-serialize",
        "headers": {"lang": "py", "task": "store.tasks.update_inventory", "id": str(uuid.uuid4())},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "shopwire", "routing_key": "inventory"},
            "delivery_tag": str(uuid.uuid4()),
            "delivery_mode": 2,
        },
    }
    worker = machine.start_worker("-Q", "inventory", concurrency=1)
    broker = redis.Redis(port=machine.redis_port)

    broker.lpush("shopwire:inventory", json.dumps(message))

    wait_until("the worker refuses the message", lambda: worker.says("it is not JSON"))
    assert broker.llen("shopwire:inventory") == 0
    assert worker.is_alive
    assert not proof.exists()


def test_a_message_that_cannot_be_decoded_or_shown_is_dropped_and_the_next_one_taken(machine):
    if machine.uses_rabbitmq:
        pytest.skip("It speaks Redis.")
    message = {
        "body": 1.5,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "store.tasks.update_inventory", "compression": ["zip"]},
        "properties": {
            "delivery_info": {"exchange": "shopwire", "routing_key": "inventory"},
            "delivery_tag": str(uuid.uuid4()),
            "delivery_mode": 2,
        },
    }
    worker = machine.start_worker("-Q", "inventory", concurrency=1)
    broker = redis.Redis(port=machine.redis_port)
    broker.lpush("shopwire:inventory", json.dumps(message))
    wait_until("the worker drops it", lambda: worker.says("it cannot be decoded"))
    wait_until("it is gone", lambda: not broker.zcard("shopwire:unacked_index"))
    assert not worker.says("Connection to broker lost")
    assert broker.llen("shopwire:inventory") == 0
