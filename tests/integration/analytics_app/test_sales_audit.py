"""``outbox verify`` reports sales figures if and only if they are wrong."""

import pytest
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from analytics_app import promises as audit
from analytics_app import tasks
from analytics_app.models import DailySales, SaleRecord
from celery_ledger.models import DurableTask
from celery_ledger.promises import promises
from store.models import Order, OrderItem
from store.signals import order_cancelled, order_created
from tests.shop import make_order, make_product

pytestmark = pytest.mark.django_db


@pytest.fixture
def recorded():
    orders = [make_order(lines=2) for _ in range(3)]
    tasks.record_sale([order.pk for order in orders])
    return orders


def test_an_order_without_record_and_task_is_named(recorded):
    order = make_order()
    (line,) = audit.orders_without_sale()
    assert line.startswith(f"order {order.pk} ")
    with transaction.atomic():
        order_created.send_robust(sender=Order, order=order)
    for status in ("pending", "published", "dead", "cancelled"):
        DurableTask.objects.update(status=status)
        assert list(audit.orders_without_sale()) == []
    DurableTask.objects.update(status="succeeded")
    assert len(list(audit.orders_without_sale())) == 1


def test_a_cancelled_order_whose_sale_stands_is_named(recorded):
    order = recorded[1]
    Order.objects.filter(pk=order.pk).update(status="cancelled")
    (line,) = audit.sales_not_as_their_orders()
    assert line.startswith(f"order {order.pk} is cancelled")
    with transaction.atomic():
        order_cancelled.send_robust(sender=Order, order=order)
    assert list(audit.sales_not_as_their_orders()) == []
    DurableTask.objects.update(status="succeeded")
    assert len(list(audit.sales_not_as_their_orders())) == 1


def test_a_reversed_sale_whose_order_stands_is_named(recorded):
    SaleRecord.objects.filter(order=recorded[0]).update(reversed_at=Now())
    (line,) = audit.sales_not_as_their_orders()
    assert line.startswith(f"order {recorded[0].pk} is not cancelled")


def test_a_sale_unlike_its_lines_is_named(recorded):
    assert list(audit.sales_unlike_their_lines()) == []
    SaleRecord.objects.filter(order=recorded[0]).update(revenue=F("revenue") + 1)
    OrderItem.objects.filter(order=recorded[2]).delete()
    assert len(list(audit.sales_unlike_their_lines())) == 2


def test_daily_sales_that_are_off_are_named(recorded):
    assert list(audit.daily_sales_unlike_their_sales()) == []
    counted_twice, lost, _ = DailySales.objects.order_by("product_id")[:3]
    DailySales.objects.filter(pk=counted_twice.pk).update(orders=2, units=F("units") * 2, revenue=F("revenue") * 2)
    lost.delete()
    DailySales.objects.create(day="2020-01-01", product=make_product(), orders=1, units=1, revenue=1)
    assert len(list(audit.daily_sales_unlike_their_sales())) == 3


def test_the_promises_are_registered_and_cost_a_query_each(recorded, django_assert_max_num_queries):
    mine = [violations for violations in promises().values() if violations.__module__ == "analytics_app.promises"]
    assert len(mine) == 4
    with django_assert_max_num_queries(5):
        assert [line for violations in mine for line in violations()] == []
