"""Round trips of a checkout: how often the web process waits for its database."""

import time

import httpx
import pytest

from celery_ledger.models import DurableTask
from tests.faults.buyers import Buyers
from tests.processes import wait_until
from tests.tcp_proxy import tcp_proxy

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]

#: Round trips of a checkout before its receivers were guarded (d7c4608), without an Idempotency-Key and with one.
WITHOUT_KEY, WITH_KEY = 10, 12


def test_a_checkout_waits_for_the_database_no_more_often_than_before_its_receivers_were_guarded(
    machine, database_proxy
):
    """
    The savepoint around the calls of receivers travels with them: d7c4608, which had none, needs as many round trips.

    The best of ten counts, for the first ones of a connection prepare their statements.
    """
    machine.start_web(DATABASE_URL=database_proxy.url, WEB_THREADS="1")
    buyers = Buyers(30)
    without_key, with_key = [], []
    with httpx.Client(base_url=machine.web_url, timeout=30, trust_env=False) as client:
        for number, checkout in enumerate(buyers.checkouts):
            headers = {"Authorization": f"Bearer {checkout.token}"}
            if number % 2:
                headers["Idempotency-Key"] = checkout.key
            before = database_proxy.turns
            answer = client.post("/api/orders/", json={"cart_id": str(checkout.cart_id)}, headers=headers)
            (with_key if number % 2 else without_key).append(database_proxy.turns - before)
            assert answer.status_code == 201
            story = DurableTask.objects.filter(subject=f"store.order:{answer.json()['id']}")
            assert story.count() == 5
    print(f"Round trips of a checkout: {without_key} without a key, {with_key} with one")
    assert 0 < min(without_key[-10:]) <= WITHOUT_KEY
    assert 0 < min(with_key[-10:]) <= WITH_KEY


#: Round trips of a worker for the six tasks of an order that is placed alone, the last of which records that it is
#: settled: to its database, and to Redis.
OF_WORKERS, OF_WORKERS_TO_REDIS = 35, 10


def test_what_the_tasks_of_an_order_cost_a_worker_on_the_wire(machine, database_proxy):
    """Counted by proxies from outside, for orders that are placed one at a time, less what a worker says at idle."""
    if machine.uses_rabbitmq:
        pytest.skip("it stands before a Redis")
    with tcp_proxy("127.0.0.1", machine.redis_port) as redis_proxy:
        machine.start_worker(
            DATABASE_URL=database_proxy.url, REDIS_URL=f"redis://127.0.0.1:{redis_proxy.port}/0", concurrency=1
        )
        machine.start_relay()
        machine.start_web()
        buyers = Buyers(30)
        with httpx.Client(base_url=machine.web_url, timeout=30, trust_env=False) as client:

            def place(checkouts):
                for checkout in checkouts:
                    headers = {"Authorization": f"Bearer {checkout.token}"}
                    answer = client.post("/api/orders/", json={"cart_id": str(checkout.cart_id)}, headers=headers)
                    assert answer.status_code == 201
                    story = DurableTask.objects.filter(subject=f"store.order:{answer.json()['id']}")
                    wait_until("the order's tasks are done", lambda story=story: not story.exclude(status="succeeded"))
                    assert story.count() >= 6

            place(buyers.checkouts[:10])
            began, before = time.monotonic(), (database_proxy.turns, redis_proxy.turns)
            place(buyers.checkouts[10:])
            took, after = time.monotonic() - began, (database_proxy.turns, redis_proxy.turns)
            time.sleep(min(took, 3.0))  # What is counted is what happens between orders.
            idle = [
                (now - then) * took / min(took, 3.0)
                for now, then in zip((database_proxy.turns, redis_proxy.turns), after, strict=True)
            ]
    of_database, of_redis = (
        (then - first - at_idle) / 20 for then, first, at_idle in zip(after, before, idle, strict=True)
    )
    print(f"Round trips of a worker for an order's tasks: {of_database:.1f} to the database, {of_redis:.1f} to Redis")
    assert 0 < of_database <= OF_WORKERS
    assert 0 < of_redis <= OF_WORKERS_TO_REDIS
