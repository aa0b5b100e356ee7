"""``outbox verify`` finds customers who were not notified of their orders, and orders missing from the audit trail."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit_trail.models import AuditEntry
from celery_ledger.models import DurableTask
from celery_ledger.promises import promises
from celery_ledger.testing import drain
from notifications.models import Notification, NotificationPreference
from store.models import Order
from tests.shop import api, check_out, make_cart, make_customer, make_product, place_order

pytestmark = pytest.mark.django_db(transaction=True)

TOLD = {
    "placed": "Every customer was notified of the placed order.",
    "cancelled": "Every customer was notified of the cancellation.",
}
RECORDED = {
    "placed": "Every order is recorded as placed.",
    "cancelled": "Every cancelled order is recorded as cancelled.",
}
MINE = [*TOLD.values(), *RECORDED.values(), "No order is recorded twice."]


def broken():
    return {promise: lines for promise in MINE if (lines := list(promises()[promise]()))}


@pytest.fixture
def order():
    """An order that is placed and cancelled, its tasks not yet run."""
    buyer = make_customer()
    order = place_order(buyer).id
    assert api(buyer).post(f"/api/orders/{order}/cancel/").status_code == 200
    return order


def test_what_is_under_way_and_what_is_done_breaks_nothing(order):
    assert broken() == {}
    drain()
    assert broken() == {}
    assert Notification.objects.filter(data__order=order).count() == 2
    assert AuditEntry.objects.filter(model="store.order", object_id=order).count() == 2


@pytest.mark.parametrize("what", ["placed", "cancelled"])
def test_a_customer_who_was_not_told_is_found(order, what):
    DurableTask.objects.filter(name=f"notifications.tasks.announce_{what}_order").delete()
    drain()
    assert broken() == {
        TOLD[what]: [f"order {order}: its customer has no order_{what} notification, and no task will write one"]
    }


@pytest.mark.parametrize("what", ["placed", "cancelled"])
def test_an_order_that_is_not_on_record_is_found(order, what):
    events = DurableTask.objects.filter(name="core.tasks.record_order_event")
    assert [event.delete() for event in events if event.args[0][0] == what]
    drain()
    assert broken() == {RECORDED[what]: [f"order {order} is not recorded as {what}, and no task will record it"]}


def test_an_order_that_is_on_record_twice_is_found(order):
    drain()
    AuditEntry.objects.create(what="placed", model="store.order", object_id=str(order))
    assert broken() == {"No order is recorded twice.": [f"order {order} is recorded as placed 2 times"]}


def test_a_dead_letter_accounts_for_what_lacks(order):
    DurableTask.objects.update(status="dead", last_error="it failed")
    assert broken() == {}


def test_who_does_not_want_to_be_told_and_what_is_long_ago_break_nothing(order):
    DurableTask.objects.filter(name__startswith="notifications.").delete()
    drain()
    assert set(broken()) == set(TOLD.values())
    reader = Order.objects.get().customer.user
    for kind in ("order_placed", "order_cancelled"):
        NotificationPreference.objects.create(user=reader, kind=kind, channel="in_app", enabled=False)
    assert broken() == {}
    NotificationPreference.objects.all().delete()
    Order.objects.update(placed_at=timezone.now() - timedelta(days=91))
    assert broken() == {}


def test_the_promises_cost_a_query_each_however_many_orders(order):
    with CaptureQueriesContext(connection) as few:
        broken()
    buyer, product = make_customer(), make_product()
    for _ in range(5):
        check_out(api(buyer), make_cart({product: 1}, buyer))
    with CaptureQueriesContext(connection) as many:
        broken()
    assert len(few) == len(many) == len(MINE)
