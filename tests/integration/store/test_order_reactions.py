"""Reactions of mail and analytics to an order, caused by its event and run through the ledger."""

import pytest
from django.core import mail as outbox
from django.db import transaction

from analytics_app.models import DailySales, SaleRecord
from celery_ledger.models import DurableTask
from celery_ledger.promises import promises
from celery_ledger.testing import drain, loud_receivers
from email_app.models import EmailDelivery
from store.models import Order
from store.signals import order_cancelled, order_created
from tests.shop import make_order, make_product

pytestmark = pytest.mark.django_db(transaction=True)


def announce(signal, order):
    with loud_receivers(), transaction.atomic():
        signal.send_robust(sender=Order, order=order)


def broken_promises():
    mine = ("email_app.promises", "analytics_app.promises")
    return [line for check in promises().values() if check.__module__ in mine for line in check()]


def test_placed_orders_are_confirmed_and_counted():
    product = make_product()
    orders = [make_order(lines=[(product, 2)]) for _ in range(3)]
    for order in orders:
        announce(order_created, order)
    assert broken_promises() == []
    drain()
    ours = DurableTask.objects.filter(queue__in=["email", "analytics"])
    assert set(ours.values_list("status", flat=True)) == {"succeeded"}
    mails = EmailDelivery.objects.filter(kind="order_confirmation", status="sent")
    assert set(mails.values_list("order", flat=True)) == {order.pk for order in orders}
    assert SaleRecord.objects.count() == 3
    assert DailySales.objects.get().units == 6
    assert broken_promises() == []


def test_a_cancelled_order_is_told_and_taken_off():
    order = make_order()
    announce(order_created, order)
    Order.objects.filter(pk=order.pk).update(status=Order.Status.CANCELLED)
    announce(order_cancelled, order)
    drain()
    kinds = EmailDelivery.objects.filter(order=order, status="sent").values_list("kind", flat=True)
    assert set(kinds) == {"order_confirmation", "order_cancellation"}
    assert SaleRecord.objects.get().reversed_at is not None
    assert not DailySales.objects.exists()
    assert broken_promises() == []


def test_an_event_that_is_sent_twice_has_each_effect_once():
    order = make_order()
    for _ in range(2):
        announce(order_created, order)
    drain()
    mails = [message for message in outbox.outbox if str(order.pk) in message.subject]
    assert len(mails) == 1
    assert SaleRecord.objects.count() == 1
    assert DailySales.objects.get().orders == 1
    assert broken_promises() == []


def test_one_order_that_is_gone_dies_alone_and_its_batch_is_counted():
    from analytics_app.tasks import record_sale

    order = make_order()
    announce(order_created, order)
    record_sale.delay(order.pk + 1)
    drain()
    dead = DurableTask.objects.get(status="dead", queue="analytics")
    assert (dead.name, dead.args, dead.attempts) == ("analytics_app.tasks.record_sale", [order.pk + 1], 1)
    assert SaleRecord.objects.get().order_id == order.pk
