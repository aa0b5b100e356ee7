"""Two workers with overlapping batches: every order counts once, without a deadlock."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from analytics_app import journal
from analytics_app import promises as audit
from analytics_app.models import DailySales, SaleRecord
from store.models import Order
from tests.shop import make_order, make_product

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 8


def together(*works):
    """Run all functions at the same moment, each with its own connection; raise an error of any of them."""
    start = threading.Barrier(len(works))

    def run(work):
        try:
            start.wait(timeout=10)
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(run, work) for work in works]:
            future.result(timeout=60)


def broken_promises():
    checks = (audit.orders_without_sale, audit.sales_not_as_their_orders, audit.daily_sales_unlike_their_sales)
    return [line for check in checks for line in check()]


@pytest.fixture
def products():
    return [make_product() for _ in range(12)]


def make_orders(products, count=40):
    """Orders of all products, each listing them in another order."""
    return [
        make_order(lines=[(product, 1) for product in (products[n % 12 :] + products[: n % 12])]).pk
        for n in range(count)
    ]


def test_overlapping_batches_count_each_order_once(products):
    for _ in range(ROUNDS):
        ids = make_orders(products, 20)
        together(
            lambda ids=ids: journal.record(ids[:15]),
            lambda ids=ids: journal.record(reversed(ids[5:])),
            lambda ids=ids: journal.record(ids[::2]),
        )
    assert SaleRecord.objects.count() == 20 * ROUNDS
    assert set(DailySales.objects.values_list("orders", flat=True)) == {20 * ROUNDS}
    assert broken_promises() == []


def test_different_orders_of_the_same_products_never_wait_in_a_circle(products):
    ids = make_orders(products, 61)
    journal.record(ids[:1])
    for n in range(1, 61, 4):
        together(*(lambda one=one: journal.record([one]) for one in ids[n : n + 4]))
    assert set(DailySales.objects.values_list("orders", flat=True)) == {SaleRecord.objects.count()}
    assert broken_promises() == []


def test_recording_and_reversing_at_once_end_as_one_after_the_other(products):
    for _ in range(ROUNDS):
        ids = make_orders(products, 20)
        Order.objects.filter(pk__in=ids[::3]).update(status=Order.Status.CANCELLED)
        together(
            lambda ids=ids: journal.record(ids),
            lambda ids=ids: journal.reverse(ids[::3]),
            lambda ids=ids: journal.reverse(reversed(ids[::6])),
        )
        assert broken_promises() == []


def test_overlapping_reversals_take_each_order_off_once(products):
    for _ in range(ROUNDS):
        ids = make_orders(products, 20)
        journal.record(ids)
        Order.objects.filter(pk__in=ids[1:]).update(status=Order.Status.CANCELLED)
        together(
            lambda ids=ids: journal.reverse(ids[:15]),
            lambda ids=ids: journal.reverse(reversed(ids)),
            lambda ids=ids: journal.reverse(ids[5:]),
        )
    assert set(DailySales.objects.values_list("orders", flat=True)) == {ROUNDS}
    assert broken_promises() == []


def test_a_row_that_comes_down_to_nothing_while_another_worker_adds_to_it_is_not_lost(products):
    for _ in range(ROUNDS):
        gone, new = make_orders(products, 1) + make_orders(products, 1)
        journal.record([gone])
        Order.objects.filter(pk=gone).update(status=Order.Status.CANCELLED)
        together(lambda gone=gone: journal.reverse([gone]), lambda new=new: journal.record([new]))
        assert broken_promises() == []
        Order.objects.filter(pk=new).update(status=Order.Status.CANCELLED)
        journal.reverse([new])
        assert not DailySales.objects.exists()


def test_a_worker_waits_for_one_that_is_recording_the_same_orders(products):
    """The sharpest overlap, without luck: the first has written and not committed when the second begins."""
    ids = make_orders(products, 5)
    written, waiting = threading.Event(), threading.Event()

    def first():
        with transaction.atomic():
            journal.record(ids)
            written.set()
            assert waiting.wait(timeout=10)

    def second():
        assert written.wait(timeout=10)
        waiting.set()
        journal.record(reversed(ids))

    together(first, second)
    assert SaleRecord.objects.count() == 5
    assert set(DailySales.objects.values_list("orders", flat=True)) == {5}
