"""
The promises of the audit trail, checked by ``manage.py outbox verify``: no order is missing or recorded twice.

The number of queries does not grow with the orders.
"""

from collections.abc import Iterator

from django.db.models import CharField, Count, Exists, OuterRef, QuerySet
from django.db.models.functions import Cast

from audit_trail.models import AuditEntry
from celery_ledger.promises import is_owed
from celery_ledger.walking import walk_keys
from store.models import Order

What = AuditEntry.What
#: The most orders with duplicate entries that are listed.
MOST_NAMED = 10_000


def unrecorded_orders() -> Iterator[str]:
    """Yield a line for each order whose placing is not in the trail."""
    return _unrecorded(Order.objects.placed(), What.PLACED, "core.enqueue_placed_entry")


def unrecorded_cancellations() -> Iterator[str]:
    """Yield a line for each cancelled order whose cancellation is not in the trail."""
    cancelled = Order.objects.filter(status=Order.Status.CANCELLED)
    return _unrecorded(cancelled, What.CANCELLED, "core.enqueue_cancelled_entry")


def doubly_recorded_orders() -> Iterator[str]:
    """Yield a line for each order with two entries for the same event."""
    entries = AuditEntry.objects.filter(model="store.order", what__in=[What.PLACED, What.CANCELLED]).order_by()
    twice = entries.values("object_id", "what").annotate(times=Count("id")).filter(times__gt=1)
    for entry in twice.order_by("object_id", "what")[:MOST_NAMED]:
        yield f"order {entry['object_id']} is recorded as {entry['what']} {entry['times']} times"


def _unrecorded(orders: QuerySet[Order], what: AuditEntry.What, receiver: str) -> Iterator[str]:
    entry = AuditEntry.objects.filter(model="store.order", object_id=Cast(OuterRef("pk"), CharField()), what=what)
    owed = is_owed("core.tasks.record_order_event", receiver=receiver, model="store.order", moment="placed_at")
    missing = orders.exclude(Exists(entry)).exclude(owed)
    for order_id in walk_keys(missing):
        yield f"order {order_id} is not recorded as {what}, and no task will record it"
