"""From the checkout to settled stock through the ledger, and the promises that hold meanwhile."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from analytics_app.tasks import record_sale
from celery_ledger.desk import dead_letters, graphs
from celery_ledger.models import Chord, DurableTask
from celery_ledger.promises import promises
from celery_ledger.testing import drain, enqueued
from store.models import Order, OrderItem, Stock, StockMovement
from store.promises import SETTLEMENT
from store.signals import order_created
from store.tasks import update_inventory
from tests.shop import api, check_out, make_cart, make_customer, make_product, place_order

pytestmark = pytest.mark.django_db(transaction=True)

STOCK_COVERS = "No product has more stock reserved than on hand."
RESERVED = "The reserved stock of each product equals what its unsettled orders need."
SETTLED = "The stock of every placed order is settled exactly once."
RETURNED = "The stock of every cancelled order is returned exactly once."
RECORDED = "An order is settled once all of its tasks are done, and not before."
TOTALS = "The total of every order is the sum of its lines."


def broken(promise):
    return list(promises()[promise]())


@pytest.fixture
def product():
    return make_product(stock=10, price="0.10")


@pytest.fixture
def order(product):
    return place_order(lines={product: 3, make_product(price="0.20"): 1})


def test_an_order_is_settled_by_its_task_and_every_promise_holds(order, product):
    assert broken(SETTLED) == [
        f"order {order.id} is unsettled: no sale of products {product.id}, {product.id + 1}; its task is pending"
    ]
    assert broken(RESERVED) == []

    drain()

    assert [task.status for task in enqueued("store.tasks.update_inventory")] == ["succeeded"]
    assert Stock.objects.get(product=product).on_hand == 7
    for promise in (STOCK_COVERS, RESERVED, SETTLED, RETURNED, TOTALS):
        assert broken(promise) == []


@pytest.mark.fault("F107")
@pytest.mark.postgresql
def test_f107_a_worker_that_stops_with_stock_in_its_hands_holds_up_checkouts_for_seconds(order, product):
    settled, thaw = threading.Event(), threading.Event()

    def stopped_worker():
        try:
            with pytest.raises(DatabaseError), transaction.atomic():
                update_inventory([order.pk])
                settled.set()
                assert thaw.wait(60)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(stopped_worker)
        assert settled.wait(10)
        buyer, began = make_customer(), time.monotonic()
        answer = check_out(api(buyer), make_cart({product: 1}, buyer))
        waited = time.monotonic() - began
        thaw.set()
        worker.result(10)

    assert answer.status_code == 201
    assert 2 < waited < 20  # It was 45; the machine may be busy.
    drain()
    assert Stock.objects.get(product=product).on_hand == 6


def test_a_cancelled_order_keeps_every_promise_settled_or_not(order):
    def cancel(order):
        assert api(order.customer).post(f"/api/orders/{order.id}/cancel/").status_code == 200

    drain()
    cancel(order)
    lines = {make_product(): 2}
    buyer = order.customer
    second = place_order(buyer, lines)
    cancel(second)
    drain()

    for promise in (STOCK_COVERS, RESERVED, SETTLED, RETURNED, TOTALS):
        assert broken(promise) == []


def test_a_reservation_that_no_order_asks_for_is_found(product):
    Stock.objects.filter(product=product).update(reserved=2)

    assert broken(RESERVED) == [f"product {product.id}: 2 reserved, but unsettled orders need 0"]


def test_a_sale_that_is_not_what_the_line_says_is_found(order, product):
    drain()
    StockMovement.objects.filter(product=product).update(quantity=-4)

    assert broken(SETTLED) == [f"order {order.id}: 4 of product {product.id} deducted, but its lines differ"]


def test_a_settled_order_whose_movement_is_gone_is_found(order, product):
    drain()
    StockMovement.objects.filter(product=product).delete()

    assert broken(SETTLED) == [f"order {order.id} is unsettled: no sale of product {product.id}; its task is succeeded"]


def test_goods_that_did_not_come_back_are_found(order, product):
    drain()
    Order.objects.update(status="cancelled")

    assert len(broken(RETURNED)) == 2
    assert f"order {order.id} is cancelled: 3 of product {product.id} were not returned" in broken(RETURNED)


def test_a_total_that_is_not_the_sum_is_found(order):
    OrderItem.objects.filter(order=order, quantity=1).update(unit_price="0.21")

    assert broken(TOTALS) == [f"order {order.id}: total 0.50, sum of lines 0.51"]


def test_an_order_without_lines_is_found(order):
    OrderItem.objects.filter(order=order).delete()

    assert broken(TOTALS) == [f"order {order.id}: total 0.50, sum of lines 0.00"]


def test_goods_that_came_back_of_an_order_that_stands_are_found(order, product):
    drain()
    StockMovement.objects.create(order=order, product=product, quantity=3, reason=StockMovement.Reason.CANCEL)

    assert broken(RETURNED) == [f"order {order.id}: 3 of product {product.id} were returned wrongly"]


def test_a_product_without_stock_that_somebody_ordered_is_found(order, product):
    Stock.objects.filter(product=product).delete()

    assert broken(RESERVED) == [f"product {product.id}: no stock row, but unsettled orders need 3"]


def test_settling_without_a_stock_row_waits_for_a_person(order, product):
    Stock.objects.filter(product=product).delete()
    drain()

    [task] = enqueued("store.tasks.update_inventory")
    assert task.status != "succeeded"
    assert f"The products [{product.id}] have no stock row." in task.last_error


def test_stock_that_its_constraint_did_not_keep_in_order_is_found(product):
    with connection.cursor() as cursor, transaction.atomic():
        without_constraints(cursor, "UPDATE store_stock SET on_hand = 1, reserved = 2")
        found = broken(STOCK_COVERS)
        transaction.set_rollback(True)

    assert found == [f"product {product.id}: 1 on hand, 2 reserved"]


def without_constraints(cursor, statement):
    """Run a statement without the constraints of its table."""
    if connection.vendor == "postgresql":
        cursor.execute("ALTER TABLE store_stock DROP CONSTRAINT stock_covers_reservations")
        cursor.execute(statement)
    else:
        cursor.execute("PRAGMA ignore_check_constraints = ON")
        cursor.execute(statement)
        cursor.execute("PRAGMA ignore_check_constraints = OFF")


class TestSettlement:
    """All that follows from placing an order is the header of a chord; its body records that it is done."""

    def test_it_is_recorded_when_all_of_its_tasks_are_done_with_the_time_it_took(self, order):
        members = DurableTask.objects.filter(subject=order.subject)
        assert Chord.objects.get(canvas=members.first().canvas).missing == members.count() == 5
        drain()
        order.refresh_from_db()
        assert order.settled_at >= max(members.exclude(name=SETTLEMENT).values_list("completed_at", flat=True))
        assert timedelta() < order.settled_in < order.settled_at - order.placed_at + timedelta(seconds=1)
        body = members.get(name=SETTLEMENT)
        assert (body.status, body.request_id) == ("succeeded", members.first().request_id)
        assert broken(RECORDED) == []

    def test_a_dead_letter_holds_it_up_and_its_replay_lets_it_go(self, order, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(record_sale, "run", lambda ids: 1 / 0)
            patched.setattr(record_sale, "retries", None)
            patched.setattr(record_sale, "max_retries", 0)
            drain()
        order.refresh_from_db()
        assert order.settled_at is None
        [dead] = DurableTask.objects.filter(subject=order.subject, status="dead")
        graph = graphs.graph_of(dead.canvas)
        assert graph.in_words.endswith("record_sale holds it up: it is dead.")
        assert [node.title for node in graph.nodes if node.state == "held"] == ["record_settlement"]
        assert broken(RECORDED) == []
        dead_letters.replay([dead.id])
        drain()
        order.refresh_from_db()
        assert order.settled_at is not None

    def test_a_receiver_that_failed_is_waited_for_and_so_is_what_it_calls_when_it_is_sent_the_signal_again(
        self, product, monkeypatch
    ):
        buyer = make_customer()
        with monkeypatch.context() as patched:
            patched.setattr(update_inventory, "delay", lambda order_id: 1 / 0)
            order = Order.objects.get(pk=check_out(api(buyer), make_cart({product: 1}, buyer)).json()["id"])
        tasks = DurableTask.objects.filter(subject=order.subject)
        chord = Chord.objects.get(canvas=tasks.first().canvas)
        assert tasks.filter(name="celery_ledger.tasks.redeliver").count() == 1
        assert (chord.size, chord.missing) == (5, 5)
        drain()
        chord.refresh_from_db()
        order.refresh_from_db()
        assert (chord.size, chord.missing) == (6, 0)
        late = tasks.get(name="store.tasks.update_inventory")
        assert late.completed_at <= order.settled_at

    def test_an_order_that_nobody_listens_to_is_settled_at_once(self, product, monkeypatch):
        monkeypatch.setattr(order_created, "receivers", [])
        order_created.sender_receivers_cache.clear()
        buyer = make_customer()
        order = Order.objects.get(pk=check_out(api(buyer), make_cart({product: 1}, buyer)).json()["id"])
        assert [task.name for task in DurableTask.objects.filter(subject=order.subject)] == [SETTLEMENT]

    def test_an_order_whose_settlement_is_missing_is_found_by_verify(self, order):
        drain()
        Order.objects.update(settled_at=None)
        assert broken(RECORDED) == [f"order {order.pk}: all of its tasks are done, but it is not recorded as settled"]

    def test_one_that_was_recorded_too_early_is_found_by_verify(self, order):
        Order.objects.update(settled_at=timezone.now())
        assert broken(RECORDED) == [f"order {order.pk}: it was recorded as settled before all of its tasks were done"]
