"""Under load, every order shows all its tasks, including those enqueued by batches."""

from collections import Counter

import pytest
from django.db import transaction

from celery_ledger.models import DurableTask
from notifications.models import Channel, Kind
from notifications.preferences import save_preferences
from store.models import Order, Stock
from store.signals import order_created
from tests.faults.invariants import settle
from tests.shop import api, make_customer, make_order

pytestmark = [pytest.mark.processes, pytest.mark.once]
ORDERS = 100
EXPECTED = {
    "analytics_app.tasks.record_sale",
    "core.tasks.record_order_event",
    "email_app.tasks.send_notification",
    "email_app.tasks.send_order_confirmation",
    "notifications.tasks.announce_placed_order",
    "notifications.tasks.text_notification",
    "store.tasks.update_inventory",
}


@pytest.mark.fault("F80")
def test_f80_of_a_hundred_orders_at_once_each_has_all_its_tasks_in_its_timeline(machine):
    customer = make_customer()
    wishes = {Kind.ORDER_PLACED: {Channel.EMAIL: True, Channel.SMS: True}}
    save_preferences(customer.user_id, wishes)
    orders = [make_order(customer=customer) for _ in range(ORDERS)]
    Stock.objects.update(reserved=1)  # of each product one, as the checkout leaves it
    DurableTask.objects.all().delete()
    for order in orders:
        with transaction.atomic():
            order_created.send_robust(sender=Order, order=order)
    machine.start_relay()
    machine.start_worker(concurrency=2)
    settle()
    messages = DurableTask.objects.filter(name="notifications.tasks.announce_placed_order")
    assert messages.count() == ORDERS
    for order in orders:
        names = Counter(DurableTask.objects.filter(subject=order.subject).values_list("name", flat=True))
        assert names == Counter(EXPECTED), f"order {order.pk}"
    client = api(customer)
    timelines = [client.get(f"/api/orders/{orders[0].pk}/tasks/").data["results"] for _ in range(2)]
    assert timelines[0] == timelines[1]
    assert len(timelines[0]) == len(EXPECTED)
