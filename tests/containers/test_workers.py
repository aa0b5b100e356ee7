"""
Workers and relays as containers of this project's own image, with pytest-celery, on Redis and on RabbitMQ.

Each test verifies that the fault landed; afterwards every effect of every order has happened once.
"""

import pytest

from tests.processes import wait_until

pytestmark = pytest.mark.timeout(400)
KILLED = 137


def exit_code(container) -> int | None:
    """Return what a container's process ended with, or None while it runs."""
    container.reload()
    state = container.attrs["State"]
    return None if state["Running"] else state["ExitCode"]


def test_orders_are_followed_up(celery_setup, relay, shop):
    orders = shop.place(20)
    shop.assert_done_once(orders)
    received = sum(worker.logs().count("received") for worker in celery_setup.worker_cluster)
    assert received > 0, "no worker took a message"


def test_a_worker_killed_in_the_midst_of_a_task(celery_setup, relay, shop):
    with shop.stock_movements_locked():
        (order,) = shop.place(1)
        wait_until("a worker is in the midst of it", lambda: shop.waiting_addresses() and shop.open_tasks([order]) == 1)
        (address,) = shop.waiting_addresses()
        (victim,) = [each for each in celery_setup.worker_cluster if address in each.container.ips.values()]
        victim.kill()
        assert exit_code(victim.container) == KILLED
        assert shop.open_tasks([order]) == 1
    shop.assert_done_once([order])
    assert exit_code(victim.container) == KILLED, "the killed worker came back"


def test_a_broker_killed_and_started_again_empty(celery_setup, relay, shop):
    with shop.stock_movements_locked():
        orders = shop.place(12)
        wait_until("messages wait at the broker", lambda: shop.open_tasks(orders, "published") >= 5)
        broker = celery_setup.broker
        broker.container.mark()
        assert broker.container.is_marked()
        broker.kill()
        assert exit_code(broker.container) == KILLED
        broker.restart()
        assert not broker.container.is_marked(), "the broker has kept what it had"
    shop.assert_done_once(orders)
    subjects = [f"store.order:{order}" for order in orders]
    assert shop.number("SELECT sum(lapses) FROM celery_ledger_durabletask WHERE subject = ANY(%s)", subjects) > 0


def test_two_relays_of_which_each_can_die(celery_setup, relay, second_relay, shop):
    wait_until("both are at work", lambda: shop.relays_at_work() >= {relay.hostname, second_relay.hostname})
    orders = shop.place(10)
    relay.kill("SIGKILL")
    assert exit_code(relay) == KILLED
    orders += shop.place(10)
    shop.assert_done_once(orders)

    relay.restart()
    second_relay.kill("SIGKILL")
    assert exit_code(second_relay) == KILLED
    orders += shop.place(10)
    shop.assert_done_once(orders)


def test_workers_that_are_cut_off_from_their_broker(celery_setup, cut_network, relay, shop):
    workers = [each.container for each in celery_setup.worker_cluster]
    with shop.stock_movements_locked():
        orders = shop.place(6)
        wait_until("a worker is in the midst of it", shop.waiting_addresses)
        with cut_network:
            assert not any(cut_network.is_open_from(worker) for worker in workers)
            later = shop.place(4)
            wait_until(
                "the relay has published", lambda: shop.open_tasks(later, "published") == shop.open_tasks(later) > 0
            )
            since = shop.relays_heard_of()
            wait_until("the relay goes on", lambda: shop.relays_heard_of() > since)
            assert shop.open_tasks(later, "published") == shop.open_tasks(later), "there is another way"
    assert all(cut_network.is_open_from(worker) for worker in workers)
    shop.assert_done_once(orders + later)
    assert [exit_code(worker) for worker in workers] == [None, None]
