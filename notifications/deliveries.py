"""
Deliveries of notifications: by which channel and when, and the outcome of each.

A row for each notification and channel, written with the notification; a durable task for each row, which
each channel's own receiver enqueues. ``sent`` is final.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.utils import timezone

from celery_ledger.context import about_item
from celery_ledger.patience import persist
from notifications.models import Channel, Notification, NotificationDelivery, QuietHours
from notifications.preferences import Wishes, end_of_quiet
from notifications.signals import deliveries_arranged

Status = NotificationDelivery.Status
#: Channels that leave the shop.
OUTWARD: Final = (Channel.EMAIL, Channel.PUSH, Channel.SMS)
#: Objects that notifications name in their data, and that the announcing tasks take in batches.
ITEMS: Final = ("order", "product", "message")
#: The chosen channels, by reader and kind.
Ways = Mapping[tuple[int, str], Sequence[Channel]]


def ways_of(notifications: Sequence[Notification], wishes: Wishes) -> Ways:
    """Return the channels by which these are delivered."""
    ways = {}
    for user_id, kind in {(row.user_id, row.kind) for row in notifications}:
        channels = [channel for channel in OUTWARD if wishes.wants(user_id, kind, channel)]
        if channels:
            ways[user_id, kind] = channels
    return ways


def arrange(notifications: QuerySet[Notification], ways: Ways) -> None:
    """
    Write the deliveries of notifications and let each channel enqueue its own, in the current transaction.

    The enqueued tasks belong to the object that the notification is about, even if a batch covers many objects.
    """
    columns = notifications.values_list("pk", "user_id", "kind", "data")
    told, about = {}, {}
    for pk, user_id, kind, data in columns:
        told[pk], about[pk] = (user_id, kind), _item_of(data)
    rows = NotificationDelivery.objects.bulk_create(
        NotificationDelivery(notification_id=pk, channel=channel)
        for pk, reader in told.items()
        for channel in ways.get(reader, ())
    )
    now = timezone.now()
    quiet = {
        hours.user_id: end_of_quiet(hours, now)
        for hours in QuietHours.objects.filter(user_id__in={user_id for user_id, _ in ways})
    }
    due: defaultdict[tuple[str, datetime | None, int | None], list[int]] = defaultdict(list)
    for row in rows:
        user_id, _ = told[row.notification_id]
        due[row.channel, quiet.get(user_id), about[row.notification_id]].append(row.pk)
    for (channel, end, item), ids in due.items():
        with about_item(item):
            deliveries_arranged.send_robust(
                sender=NotificationDelivery, channel=channel, deliveries=ids, due_at=end.isoformat() if end else None
            )


def _item_of(data: Mapping[str, Any]) -> int | None:
    """Return the batch item that a notification concerns, if it comes from a batch."""
    return next((data[name] for name in ITEMS if isinstance(data.get(name), int)), None)


def open_delivery(delivery_id: int) -> NotificationDelivery | None:
    """
    Return a pending delivery, with its notification and reader, or None.

    A delivery whose notification was read meanwhile is skipped; a missing one was pruned with its notification.
    """
    rows = NotificationDelivery.objects.select_related("notification__user", "notification__sender")
    delivery = rows.filter(pk=delivery_id, status=Status.PENDING).first()
    if delivery is not None and delivery.notification.read:
        settle(delivery, Status.SKIPPED, "It was read meanwhile.")
        return None
    return delivery


def settle(delivery: NotificationDelivery, status: str, error: str = "") -> None:
    """Record the outcome of a delivery, patiently; a delivery that was sent stays sent."""
    settled_at = None if status == Status.PENDING else timezone.now()
    row = NotificationDelivery.objects.filter(pk=delivery.pk).exclude(status=Status.SENT)
    persist(lambda: row.update(status=status, error=error[:200], settled_at=settled_at))


def note_reached(delivery: NotificationDelivery, subscription_id: int) -> None:
    """Record that a browser accepted a push, so that further attempts skip it."""
    delivery.reached = [*delivery.reached, subscription_id]
    persist(lambda: NotificationDelivery.objects.filter(pk=delivery.pk).update(reached=delivery.reached))
