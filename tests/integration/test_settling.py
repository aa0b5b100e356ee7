"""From the checkout to settled stock by the ledger's way, and the promises that are kept meanwhile."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import DatabaseError, connection, transaction

from celery_ledger.promises import promises
from celery_ledger.testing import drain, enqueued
from store.models import Order, OrderItem, Stock, StockMovement
from store.tasks import update_inventory
from tests.shop import api, check_out, make_cart, make_customer, make_product

pytestmark = pytest.mark.django_db(transaction=True)

STOCK_COVERS = "Of every product, as much is on hand as is reserved, or more."
RESERVED = "As much of every product is reserved as unsettled orders ask for."
SETTLED = "Every placed order has its stock settled, once."
RETURNED = "Every cancelled order has its stock back, once."
TOTALS = "The total of every order is the sum of its lines."


def broken(promise):
    return list(promises()[promise]())


@pytest.fixture
def product():
    return make_product(stock=10, price="0.10")


@pytest.fixture
def order(product):
    buyer = make_customer()
    other = make_product(price="0.20")
    return Order.objects.get(pk=check_out(api(buyer), make_cart({product: 3, other: 1}, buyer)).json()["id"])


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
    second = Order.objects.get(pk=check_out(api(buyer), make_cart(lines, buyer)).json()["id"])
    cancel(second)
    drain()

    for promise in (STOCK_COVERS, RESERVED, SETTLED, RETURNED, TOTALS):
        assert broken(promise) == []


def test_a_reservation_that_no_order_asks_for_is_found(product):
    Stock.objects.filter(product=product).update(reserved=2)

    assert broken(RESERVED) == [f"product {product.id}: 2 reserved, unsettled orders ask for 0"]


def test_a_sale_that_is_not_what_the_line_says_is_found(order, product):
    drain()
    StockMovement.objects.filter(product=product).update(quantity=-4)

    assert broken(SETTLED) == [f"order {order.id}: 4 of product {product.id} left, its lines say otherwise"]


def test_a_settled_order_whose_movement_is_gone_is_found(order, product):
    drain()
    StockMovement.objects.filter(product=product).delete()

    assert broken(SETTLED) == [f"order {order.id} is unsettled: no sale of product {product.id}; its task is succeeded"]


def test_goods_that_did_not_come_back_are_found(order, product):
    drain()
    Order.objects.update(status="cancelled")

    assert len(broken(RETURNED)) == 2
    assert f"order {order.id} is cancelled: 3 of product {product.id} did not come back" in broken(RETURNED)


def test_a_total_that_is_not_the_sum_is_found(order):
    OrderItem.objects.filter(order=order, quantity=1).update(unit_price="0.21")

    assert broken(TOTALS) == [f"order {order.id}: total 0.50, sum of lines 0.51"]


def test_an_order_without_lines_is_found(order):
    OrderItem.objects.filter(order=order).delete()

    assert broken(TOTALS) == [f"order {order.id}: total 0.50, sum of lines 0.00"]


def test_goods_that_came_back_of_an_order_that_stands_are_found(order, product):
    drain()
    StockMovement.objects.create(order=order, product=product, quantity=3, reason=StockMovement.Reason.CANCEL)

    assert broken(RETURNED) == [f"order {order.id}: 3 of product {product.id} came back, wrongly"]


def test_a_product_without_stock_that_somebody_ordered_is_found(order, product):
    Stock.objects.filter(product=product).delete()

    assert broken(RESERVED) == [f"product {product.id}: no stock row, unsettled orders ask for 3"]


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
    """Run a statement as somebody might who has dropped the constraints of a table."""
    if connection.vendor == "postgresql":
        cursor.execute("ALTER TABLE store_stock DROP CONSTRAINT stock_covers_reservations")
        cursor.execute(statement)
    else:
        cursor.execute("PRAGMA ignore_check_constraints = ON")
        cursor.execute(statement)
        cursor.execute("PRAGMA ignore_check_constraints = OFF")
