"""A RabbitMQ that is killed during publishing: it keeps the confirmed messages, and the rest are published again."""

import os
import signal
import time

import pytest

from celery_ledger.models import DurableTask
from celery_ledger.rows.outbox import collecting
from celery_ledger.watch import watchdog
from store.models import Collection
from tests import probe
from tests.faults.test_lost_processes import all_succeeded
from tests.own_rabbitmq import OwnRabbitMQ, find_server
from tests.processes import free_port, wait_until

pytestmark = pytest.mark.processes
COUNT = 3_000


@pytest.fixture
def own_rabbitmq(machine, tmp_path):
    script = find_server()
    if script is None:
        pytest.skip("there is no rabbitmq-server")
    node = OwnRabbitMQ(tmp_path, script)
    machine.environment["CELERY_BROKER_URL"] = node.url
    yield node
    node.kill()


@pytest.mark.fault("F26")
@pytest.mark.slow_fault
def test_f26_a_rabbitmq_killed_while_it_is_given_messages_loses_none(machine, own_rabbitmq):
    relay = machine.start_relay(LEDGER_QUEUE_WINDOW=str(COUNT))
    probe.make_collection.delay("warm up")
    wait_until("its queue is there", lambda: own_rabbitmq.depth("default") == 1)
    time.sleep(5)  # Killed sooner, RabbitMQ 3.10 itself never finds the leader of a new quorum queue again.
    published = DurableTask.objects.filter(status="published")
    with collecting():
        for number in range(COUNT):
            probe.make_collection.delay(f"shelf {number}")
    wait_until("the relay is in the midst of it", lambda: own_rabbitmq.depth("default") >= 20)
    # Whoever does not wait to be told goes on sending to it, and takes that for published.
    os.killpg(own_rabbitmq.process.pid, signal.SIGSTOP)

    def stands_still():
        before = published.count()
        time.sleep(0.5)
        return published.count() == before

    wait_until("the relay goes no further", stands_still)
    own_rabbitmq.kill()
    wait_until("the relay noticed", lambda: relay.says("The broker is unavailable or refuses"))
    claimed, waiting = published.count(), DurableTask.objects.filter(status="pending").count()
    own_rabbitmq.start()
    confirmed = own_rabbitmq.depth("default")
    machine.start_worker()
    took = wait_until("all are done", all_succeeded, seconds=150)
    lapsed = DurableTask.objects.filter(lapses__gt=0).count()
    print(
        f"F26: killed with {claimed} published and {waiting} to come; {confirmed} were there after its restart; "
        f"all done {took:.0f} s after a worker was ready; {lapsed} had gone unheard of"
    )
    assert relay.is_alive
    assert waiting > 0, "it was over before the kill"
    assert Collection.objects.count() == COUNT + 1
    assert lapsed == 0, "confirmed messages were lost"


@pytest.mark.fault("F20", "F26")
@pytest.mark.slow_fault
def test_f20_a_rabbitmq_that_falls_silent_is_left_and_found_again(machine, own_rabbitmq):
    relay = machine.start_relay()
    machine.start_worker(concurrency=1)
    probe.make_collection.delay("before")
    wait_until("it is done", all_succeeded)
    os.killpg(own_rabbitmq.process.pid, signal.SIGSTOP)
    for number in range(20):
        probe.make_collection.delay(f"shelf {number}")
    wait_until("the relay gave up waiting", lambda: relay.says("The broker is unavailable or refuses"), seconds=40)
    os.killpg(own_rabbitmq.process.pid, signal.SIGCONT)
    took = wait_until("all are done", all_succeeded, seconds=90)
    print(f"F20: done {took:.1f} s after RabbitMQ answered again")
    assert relay.is_alive
    assert Collection.objects.count() == 21


@pytest.mark.fault("F87")
def test_f87_a_queue_that_is_full_costs_no_relay_and_no_other_queue_anything(machine, own_rabbitmq):
    relay = machine.start_relay()
    probe.make_collection.delay("warm up")
    wait_until("its queue is there", lambda: own_rabbitmq.depth("default") == 1)
    own_rabbitmq.limit("default", 3)
    with collecting():
        for number in range(20):
            probe.make_collection.delay(f"shelf {number}")
    wait_until("the relay was refused", lambda: relay.says("The broker refuses messages for default"), seconds=40)
    for number in range(5):
        probe.make_collection.apply_async((f"elsewhere {number}",), queue="analytics")
    wait_until("the others go out", lambda: own_rabbitmq.depth("analytics") >= 5)
    wait_until("it is named", lambda: any("the broker refuses default" in found.text for found in watchdog.of_relays()))
    assert DurableTask.objects.filter(queue="default", status="pending").exists()  # A message may carry several.
    own_rabbitmq.take_limits_off()
    machine.start_worker()
    wait_until("all are done", all_succeeded, seconds=60)
    wait_until("it is well again", lambda: watchdog.of_relays() == [], seconds=30)
    assert relay.is_alive
    assert "Traceback" not in relay.log.read_text()
    assert Collection.objects.count() == 26
    assert not DurableTask.objects.filter(lapses__gt=0).exists()


@pytest.mark.fault("F190")
@pytest.mark.slow_fault
def test_f190_a_node_that_is_away_keeps_no_worker_from_its_messages(machine, own_rabbitmq):
    machine.environment["CELERY_BROKER_URL"] = f"{own_rabbitmq.url};amqp://guest:guest@127.0.0.1:{free_port()}//"
    machine.start_relay()
    worker = machine.start_worker(concurrency=1)
    probe.make_collection.delay("while a node is away")
    wait_until("it is done", all_succeeded)
    gave_up = "Failed to setup delayed delivery"
    assert not worker.says(gave_up), "the worker waited for the node"
    wait_until("Celery found the node away", lambda: worker.says(gave_up), seconds=40)
    assert worker.is_alive
