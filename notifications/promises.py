"""
The promises of notifications, checked by ``manage.py outbox verify``: every customer is notified.

Users who turned this notification off, and orders older than notifications are kept, are skipped. The number
of queries does not grow with the orders.
"""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import CharField, Exists, OuterRef, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from celery_ledger.promises import is_owed
from celery_ledger.walking import walk_keys
from notifications.models import Channel, Kind, Notification, NotificationPreference
from store.models import Order


def untold_of_placed_orders() -> Iterator[str]:
    """Yield a line for each placed order whose customer was not notified."""
    return _untold(Order.objects.placed(), Kind.ORDER_PLACED, "announce_placed_order", "enqueue_placed_notice")


def untold_of_cancelled_orders() -> Iterator[str]:
    """Yield a line for each cancelled order whose customer was not notified."""
    cancelled = Order.objects.filter(status=Order.Status.CANCELLED)
    return _untold(cancelled, Kind.ORDER_CANCELLED, "announce_cancelled_order", "enqueue_cancelled_notice")


def _untold(orders: QuerySet[Order], kind: Kind, task: str, receiver: str) -> Iterator[str]:
    told = Notification.objects.filter(
        user=OuterRef("customer__user"), key=Concat(Value(f"{kind}:"), Cast(OuterRef("pk"), CharField()))
    )
    unwanted = NotificationPreference.objects.filter(
        user=OuterRef("customer__user"), kind=kind, channel=Channel.IN_APP, enabled=False
    )
    kept_since = timezone.now() - timedelta(days=settings.NOTIFICATION_RETENTION_DAYS)
    untold = orders.filter(placed_at__gt=kept_since).exclude(Exists(told)).exclude(Exists(unwanted))
    owed = is_owed(
        f"notifications.tasks.{task}", receiver=f"notifications.{receiver}", model="store.order", moment="placed_at"
    )
    for order_id in walk_keys(untold.exclude(owed)):
        yield f"order {order_id}: its customer has no {kind} notification, and no task will write one"
