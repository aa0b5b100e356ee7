"""
The shop's durable tasks, after an order and on schedule.

Stock tasks are run by the workers of the queue ``inventory``, in the transaction that records their success. Clean-up
tasks are enqueued by beat, and run in small transactions of their own.
"""

from datetime import datetime, timedelta
from itertools import chain
from operator import itemgetter
from typing import Any

from celery import shared_task
from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from celery_ledger.desk import turns
from store import carts, idempotency, inventory
from store.models import Order


@shared_task(name="store.tasks.update_inventory", label="Update the stock", queue="inventory", batch_size=200)
def update_inventory(order_ids: list[int]) -> None:
    """
    Settle the reserved stock of these orders: the goods have left.

    Effect: ``on_hand`` and ``reserved`` go down, one ``sale`` movement per line; the key is order and product. A second
    delivery finds the movements and changes nothing. Cancelled orders are skipped.
    """
    inventory.settle(order_ids)


@shared_task(name="store.tasks.record_settlement", label="Settle your order", batch_size=200)
def record_settlement(placed: list[dict[str, Any]]) -> None:
    """
    Record that all tasks after placing these orders are done, and how long that took: their chords' body.

    ``placed`` lists each ``order`` and when it was placed (``at``). Effect: ``settled_at`` and ``settled_in``, once.
    """
    now = timezone.now()
    orders = [
        Order(pk=each["order"], settled_at=Now(), settled_in=max(now - datetime.fromisoformat(each["at"]), timedelta()))
        for each in sorted(placed, key=itemgetter("order"))
    ]
    Order.objects.filter(settled_at=None).bulk_update(orders, ["settled_at", "settled_in"])


@shared_task(name="store.tasks.drop_abandoned_carts", queue="scheduled", transactional=False)
def drop_abandoned_carts() -> int:
    """
    Delete carts older than ``CART_LIFETIME_DAYS``, and empty anonymous ones after a day; return how many.

    Repeatable: a second run finds nothing to delete.
    """
    unused = carts.drop_unused(older_than=timedelta(days=1))
    abandoned = carts.drop_abandoned(older_than=timedelta(days=settings.CART_LIFETIME_DAYS))
    return turns.take(drop_abandoned_carts, chain(unused, abandoned))


@shared_task(name="store.tasks.prune_idempotency_keys", queue="scheduled", transactional=False)
def prune_idempotency_keys() -> int:
    """Delete expired idempotency keys, and return how many. Repeatable."""
    return turns.take(prune_idempotency_keys, idempotency.prune())
