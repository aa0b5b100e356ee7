"""
Writing notifications: a row for each reader, in one statement. Called by tasks, in their transaction.

Promises that a notification with a key is written once for each reader, however often it is announced, and that ids
grow in the order of the commits, for all writers: a stream that continues after an id misses nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from celery_ledger.trips import in_one_trip
from notifications import deliveries
from notifications.models import Channel, Kind, Notification
from notifications.preferences import Wishes
from notifications.wakeup import ring_after_commit

#: How many rows one transaction deletes.
BATCH: Final = 500
#: PostgreSQL's advisory lock of transactions that write notifications, until the end of its transaction.
TURN_LOCK: Final = 4_915_011


def notify(
    user_ids: Iterable[int],
    *,
    kind: Kind,
    message: str,
    data: dict[str, Any] | None = None,
    key: str | None = None,
    sender_id: int | None = None,
) -> None:
    """Notify all these users. ``key`` identifies the event, such as ``stock_low:42:2030-01-31``."""
    write(
        Notification(user_id=id, kind=kind, message=message, data=data or {}, key=key, sender_id=sender_id)
        for id in user_ids
    )


def write(notifications: Iterable[Notification]) -> None:
    """Write notifications in one statement, except those whose reader already has one with the same key."""
    rows = list(notifications)
    if not rows:
        return
    wishes = Wishes((row.user_id for row in rows), (row.kind for row in rows))
    for row in rows:
        row.in_app = wishes.wants(row.user_id, row.kind, Channel.IN_APP)
    ways = deliveries.ways_of(rows, wishes)
    with transaction.atomic(savepoint=False):
        if ways:
            _write_and_arrange(rows, ways)
        else:
            with in_one_trip():
                wait_for_turn()
                Notification.objects.bulk_create(rows, ignore_conflicts=True)
    ring_after_commit()


def _write_and_arrange(rows: Sequence[Notification], ways: deliveries.Ways) -> None:
    wait_for_turn()
    before = newest_id()
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
    # No other process writes now, so any newer row was written here.
    deliveries.arrange(Notification.objects.filter(pk__gt=before), ways)


def newest_id() -> int:
    """Return the highest id: everything up to it is committed, or written here."""
    return Notification.objects.aggregate(newest=Max("pk"))["newest"] or 0


def wait_for_turn() -> None:
    """
    Wait until all other transactions that write notifications have ended, and block later ones until this ends.

    An id is drawn when a row is written and seen when it is committed. Without this, a row could be committed after a
    row with a higher id was read, and a reader that continues from there would never see it. SQLite has only one writer
    at a time anyway.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [TURN_LOCK])


def prune(*, older_than: timedelta, unread_older_than: timedelta) -> Iterator[int]:
    """Delete old notifications, read or unread, in small transactions; yield the number deleted in each."""
    now = timezone.now()
    read = Notification.objects.filter(read=True, created__lt=now - older_than)
    unread = Notification.objects.filter(created__lt=now - unread_older_than)
    for old in (read.order_by("pk"), unread.order_by("pk")):
        while ids := list(old.values_list("pk", flat=True)[:BATCH]):
            Notification.objects.filter(pk__in=ids).delete()
            yield len(ids)
