"""
Receivers that record webhook deliveries. Connected in apps.py.

A delivery for each endpoint and its durable task are a part of the transaction that caused them, so the deliveries
about one order or product are in the order of the commits.
"""

from decimal import Decimal
from functools import partial
from typing import Any

from celery_ledger import collecting
from celery_ledger.context import working_on
from store.models import Order, Product
from webhooks import payloads, recording, tasks
from webhooks.models import Event


def send_order_created(sender: object, order: Order, **kwargs: Any) -> None:
    """Send a placed order to subscribed endpoints."""
    if recording.is_wanted(Event.ORDER_CREATED):
        for _, id in recording.record(Event.ORDER_CREATED, [(order.subject, partial(payloads.of_order, order))]):
            tasks.deliver.delay(id)


def send_order_cancelled(sender: object, order: Order, **kwargs: Any) -> None:
    """Send a cancelled order to subscribed endpoints."""
    if recording.is_wanted(Event.ORDER_CANCELLED):
        for _, id in recording.record(Event.ORDER_CANCELLED, [(order.subject, partial(payloads.of_order, order))]):
            tasks.deliver.delay(id)


def send_orders_settled(sender: object, orders: list[int], **kwargs: Any) -> None:
    """Send orders whose goods have left to subscribed endpoints."""
    if not recording.is_wanted(Event.ORDER_SETTLED):
        return
    settled = Order.objects.filter(pk__in=orders).order_by("pk")
    with collecting():
        for subject, id in recording.record(
            Event.ORDER_SETTLED, [(order.subject, partial(payloads.of_order, order)) for order in settled]
        ):
            with working_on(subject=subject):
                tasks.deliver.delay(id)


def send_stock_low(sender: object, product: Product, **kwargs: Any) -> None:
    """Send a product with low stock to subscribed endpoints."""
    if recording.is_wanted(Event.STOCK_LOW):
        data = {**payloads.of_product(product), "low_stock_threshold": product.low_stock_threshold}
        for _, id in recording.record(Event.STOCK_LOW, [(payloads.subject_of(product), lambda _: data)]):
            tasks.deliver.delay(id)


def send_price_changed(sender: object, product: Product, old: Decimal, new: Decimal, **kwargs: Any) -> None:
    """Send a product's new price to subscribed endpoints."""
    if recording.is_wanted(Event.PRICE_CHANGED):
        data = {**payloads.of_product(product), "old": str(old), "new": str(new), "currency": product.currency}
        for _, id in recording.record(Event.PRICE_CHANGED, [(payloads.subject_of(product), lambda _: data)]):
            tasks.deliver.delay(id)


def look_again(sender: object, **kwargs: Any) -> None:
    """An endpoint was changed in this process: clear the cache of subscriptions."""
    recording.forget()
