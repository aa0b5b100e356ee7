"""Every order counts exactly once, in whatever order its tasks run."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from analytics_app import journal, tasks
from analytics_app import promises as audit
from analytics_app.models import DailySales, SaleRecord
from celery_ledger.errors import PermanentError
from celery_ledger.models import DurableTask
from store.models import Order
from store.signals import order_cancelled, order_created
from tests.shop import make_customer, make_order, make_product

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


@pytest.fixture
def teapot():
    return make_product(price="12.50")


@pytest.fixture
def cup():
    return make_product(price="0.10")


def cancel(order):
    Order.objects.filter(pk=order.pk).update(status=Order.Status.CANCELLED)


def daily():
    """The daily sales as plain values: {(day, product): (orders, units, revenue)}."""
    return {(row.day, row.product_id): (row.orders, row.units, row.revenue) for row in DailySales.objects.all()}


def records():
    """The sale records as plain values, without the moment of their reversal."""
    return [
        (row.order_id, row.day, row.country, row.units, row.revenue, row.currency, row.reversed_at is not None)
        for row in SaleRecord.objects.order_by("order_id")
    ]


def broken_promises():
    checks = (
        audit.orders_without_sale,
        audit.sales_not_as_their_orders,
        audit.sales_unlike_their_lines,
        audit.daily_sales_unlike_their_sales,
    )
    return [line for check in checks for line in check()]


def test_a_batch_of_orders_is_recorded_and_added_up(teapot, cup):
    first = make_order(
        lines=[(teapot, 2), (cup, 3)], placed_at=NOON, currency="GBP", customer=make_customer(country="France")
    )
    second = make_order(lines=[(cup, 10)], placed_at=NOON, currency="GBP", customer=make_customer(country=""))
    tasks.record_sale([first.pk, second.pk])
    day = date(2026, 3, 14)
    assert records() == [
        (first.pk, day, "France", 5, Decimal("25.30"), "GBP", False),
        (second.pk, day, "", 10, Decimal("1.00"), "GBP", False),
    ]
    assert daily() == {(day, teapot.pk): (1, 2, Decimal("25.00")), (day, cup.pk): (2, 13, Decimal("1.30"))}
    assert broken_promises() == []


def test_orders_that_are_recorded_are_passed_over(teapot):
    orders = [make_order(lines=[(teapot, 1)]) for _ in range(3)]
    tasks.record_sale([orders[0].pk, orders[1].pk])
    tasks.record_sale([orders[1].pk, orders[1].pk, orders[2].pk])
    tasks.record_sale([order.pk for order in orders])
    assert [row[:2] for row in daily().values()] == [(3, 3)]
    assert broken_promises() == []


def test_cents_add_up_exactly(cup):
    for _ in range(7):
        tasks.record_sale([make_order(lines=[(cup, 3)], placed_at=NOON).pk])
    assert daily() == {(date(2026, 3, 14), cup.pk): (7, 21, Decimal("2.10"))}


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 3, 14, 23, 59, 59, 999_999, tzinfo=UTC), date(2026, 3, 14)),
        (datetime(2026, 3, 15, tzinfo=UTC), date(2026, 3, 15)),
    ],
)
def test_the_day_is_the_utc_day(teapot, moment, day):
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # Whatever the session thinks.
            cursor.execute("SET LOCAL TIME ZONE 'Pacific/Auckland'")
    tasks.record_sale([make_order(lines=[(teapot, 1)], placed_at=moment).pk])
    assert SaleRecord.objects.get().day == day
    assert DailySales.objects.get().day == day


def test_a_cancelled_order_is_taken_off_again_once(teapot, cup):
    stays = make_order(lines=[(teapot, 1)], placed_at=NOON)
    goes = make_order(lines=[(teapot, 2), (cup, 5)], placed_at=NOON)
    tasks.record_sale([stays.pk, goes.pk])
    cancel(goes)
    tasks.reverse_sale([goes.pk])
    tasks.reverse_sale([goes.pk, goes.pk])
    tasks.record_sale([goes.pk])
    assert daily() == {(date(2026, 3, 14), teapot.pk): (1, 1, Decimal("12.50"))}
    assert [row[-1] for row in records()] == [False, True]
    assert broken_promises() == []


@pytest.mark.parametrize("steps", ["record, cancel, reverse", "cancel, record, reverse", "cancel, reverse, record"])
def test_the_order_of_record_and_reverse_makes_no_difference(steps, teapot, cup):
    stays = make_order(lines=[(teapot, 1)], placed_at=NOON)
    goes = make_order(
        lines=[(teapot, 2), (cup, 5)], placed_at=NOON, currency="GBP", customer=make_customer(country="Spain")
    )
    tasks.record_sale([stays.pk])
    for step in steps.split(", "):
        {
            "record": lambda: tasks.record_sale([goes.pk]),
            "cancel": lambda: cancel(goes),
            "reverse": lambda: tasks.reverse_sale([goes.pk]),
        }[step]()
    assert daily() == {(date(2026, 3, 14), teapot.pk): (1, 1, Decimal("12.50"))}
    assert records()[1] == (goes.pk, date(2026, 3, 14), "Spain", 7, Decimal("25.50"), "GBP", True)
    assert broken_promises() == []


def test_a_cancelled_order_adds_nothing_even_before_its_reversal(teapot):
    order = make_order(lines=[(teapot, 1)], status=Order.Status.CANCELLED)
    tasks.record_sale([order.pk])
    assert records()[0][-1] is True
    assert daily() == {}


def test_an_order_that_is_not_cancelled_is_not_reversed(teapot):
    order = make_order(lines=[(teapot, 1)])
    tasks.reverse_sale([order.pk])
    assert [row[:2] for row in daily().values()] == [(1, 1)]
    assert broken_promises() == []


@pytest.mark.parametrize("task", [tasks.record_sale, tasks.reverse_sale])
def test_an_order_that_is_gone_is_permanent_and_its_batch_leaves_nothing(task, teapot):
    order = make_order(lines=[(teapot, 1)])
    with pytest.raises(PermanentError, match=f"no longer exist: {order.pk + 1}, {order.pk + 7}"), transaction.atomic():
        task([order.pk, order.pk + 1, order.pk + 7])
    assert not SaleRecord.objects.exists()
    assert not DailySales.objects.exists()


def test_an_order_without_lines_is_recorded_as_nothing():
    order = make_order(lines=0)
    tasks.record_sale([order.pk])
    assert records()[0][3:5] == (0, Decimal(0))
    assert daily() == {}
    assert broken_promises() == []


def test_an_empty_batch_is_no_query(django_assert_num_queries):
    with django_assert_num_queries(0):
        journal.record([])


@pytest.mark.parametrize("work", [journal.record, journal.reverse])
def test_the_number_of_queries_does_not_grow_with_the_batch(work):
    products = [make_product() for _ in range(5)]
    orders = [make_order(lines=[(product, 1) for product in products]) for _ in range(101)]
    if work is journal.reverse:
        journal.record(order.pk for order in orders)
        Order.objects.update(status=Order.Status.CANCELLED)
    counts = []
    for batch in (orders[:1], orders[1:]):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            work([order.pk for order in batch])
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 6
    assert broken_promises() == []


def test_an_order_and_its_cancellation_enqueue_their_tasks_by_id_alone():
    order = make_order(status=Order.Status.CANCELLED)
    with transaction.atomic():
        order_created.send_robust(sender=Order, order=order)
        order_cancelled.send_robust(sender=Order, order=order)
    rows = DurableTask.objects.filter(queue="analytics").order_by("name")
    assert [(row.name, row.args, row.kwargs) for row in rows] == [
        ("analytics_app.tasks.record_sale", [order.pk], {}),
        ("analytics_app.tasks.reverse_sale", [order.pk], {}),
    ]
