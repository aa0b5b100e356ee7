"""
Receivers that enqueue notifications, connected in apps.py; each enqueues one durable task.

The task's ledger row is a part of the transaction that caused it.
"""

from datetime import datetime
from typing import Any, Final

from celery_ledger.context import working_on
from celery_ledger.models import Heartbeat
from messaging.models import Message
from notifications import tasks, urgent
from notifications.models import Announcement, Channel
from notifications.wakeup import bell
from store.models import Order, Product

#: How the subjects of orders' tasks begin; see :attr:`store.models.Order.subject`.
ORDER: Final = "store.order:"


def enqueue_placed_notice(sender: object, order: Order, **kwargs: Any) -> None:
    """Notify the customer of a placed order."""
    tasks.announce_placed_order.delay(order.pk)


def enqueue_cancelled_notice(sender: object, order: Order, **kwargs: Any) -> None:
    """Notify the customer of a cancelled order."""
    tasks.announce_cancelled_order.delay(order.pk)


def enqueue_duplicate_alert(
    sender: object, instance: Order, *, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """An order was saved: alert the managers if it is new and a duplicate."""
    if created and instance.duplicate and not raw:
        with working_on(subject=instance.subject):
            tasks.alert_duplicate_order.delay(instance.pk)


def enqueue_low_stock_alert(sender: object, product: Product, **kwargs: Any) -> None:
    """Alert the managers to a product's low stock."""
    tasks.alert_low_stock.delay(product.pk)


def enqueue_message_notice(
    sender: object, instance: Message, *, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """A message was saved: notify its receiver if it is new."""
    if created and not raw:
        tasks.announce_message.delay(instance.pk)


def enqueue_pushes(sender: object, channel: str, deliveries: list[int], due_at: str | None, **kwargs: Any) -> None:
    """Enqueue a push for each notification, due when its reader's quiet hours end."""
    if channel == Channel.PUSH:
        for delivery_id in deliveries:
            tasks.push_notification.apply_async((delivery_id,), eta=moment(due_at))


def enqueue_texts(sender: object, channel: str, deliveries: list[int], due_at: str | None, **kwargs: Any) -> None:
    """Enqueue an SMS for each notification, due when its reader's quiet hours end."""
    if channel == Channel.SMS:
        for delivery_id in deliveries:
            tasks.text_notification.apply_async((delivery_id,), eta=moment(due_at))


def hint_at_orders(sender: object, subjects: set[str], **kwargs: Any) -> None:
    """Tasks of orders have ended: hint customers' open pages to refresh."""
    orders = {subject.removeprefix(ORDER) for subject in subjects if subject.startswith(ORDER)}
    if orders:
        bell.ring({int(order) for order in orders})


def enqueue_fan_out(sender: object, instance: Announcement, *, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """An announcement was saved: notify everyone if it is new."""
    if created and not raw:
        tasks.fan_out_announcement.delay(instance.pk)


def moment(due_at: str | None) -> datetime | None:
    """Return the time carried by a signal."""
    return None if due_at is None else datetime.fromisoformat(due_at)


def tell_of_missing_processes(sender: object, kind: Heartbeat.Kind, **kwargs: Any) -> None:
    """No worker, or no relay, is running: notify the managers at once, because no task could."""
    urgent.tell_of_missing(kind)


def enqueue_late_schedule_alert(sender: object, name: str, due_at: str, **kwargs: Any) -> None:
    """Alert the managers to a late schedule, once however often it is reported."""
    tasks.alert_late_schedule.apply_async((name, due_at), unique_key=f"late:{name}:{due_at}")
