"""Brokers that stop, stall or lose everything: orders continue, and every task runs."""

import pytest

from celery_ledger.models import DurableTask
from celery_ledger.rows.outbox import collecting
from store.models import Collection
from tests import probe
from tests.faults.test_lost_processes import all_succeeded, enqueue
from tests.processes import wait_until

pytestmark = pytest.mark.processes


@pytest.mark.fault("F19")
def test_a_broker_that_loses_a_backlog_is_healed_from_the_ledger(machine):
    machine.start_relay()
    with collecting():
        for number in range(300):
            probe.make_collection.delay(f"shelf {number}")
    wait_until("some are published", lambda: DurableTask.objects.filter(status="published").count() >= 50)
    machine.flush_broker()
    machine.start_worker()
    wait_until("all are done", all_succeeded, seconds=60)
    assert Collection.objects.count() == 300


@pytest.mark.fault("F17")
def test_what_is_enqueued_while_the_broker_is_away_is_done_when_it_returns(machine):
    if machine.uses_rabbitmq:
        pytest.skip("the RabbitMQ of the run is shared and not ours to stop")
    machine.start_relay()
    worker = machine.start_worker()
    machine.stop_broker()
    enqueue(50)
    assert DurableTask.objects.count() == 50
    machine.start_broker()
    wait_until("all are done", all_succeeded, seconds=45)
    assert Collection.objects.count() == 50
    assert worker.is_alive


def test_no_more_messages_wait_at_the_broker_than_the_window_allows(machine):
    if machine.uses_rabbitmq:
        pytest.skip("counts the entries of a Redis list")
    import redis

    machine.start_relay(LEDGER_QUEUE_WINDOW="20")
    with collecting():
        for number in range(500):
            probe.make_collection.delay(f"shelf {number}")
    queue = redis.Redis(port=machine.redis_port)
    wait_until("a window of messages that carry several rows is full", lambda: queue.llen("shopwire:default") >= 10)
    most = queue.llen("shopwire:default")  # A quick worker is done with them by the time that it is known to be ready.
    machine.start_worker()

    def all_done_watching_the_queue() -> bool:
        nonlocal most
        most = max(most, queue.llen("shopwire:default"))
        return all_succeeded()

    wait_until("all are done", all_done_watching_the_queue, seconds=60)
    assert 10 <= most <= 20
