"""
Orders that repeat a recent one of the same customer, for example after a second click.

The checkout marks its orders itself, while it holds their stock: there, two orders with the same lines wait for each
other, so the second sees the first. Orders saved elsewhere are marked by a receiver.
"""

import hashlib
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from store.models import Order

#: The attribute with which an order in memory records that it has been marked.
MARKED = "_duplicate_marked"


def fingerprint_of_lines(lines: Iterable[tuple[int, int]]) -> str:
    """Return the SHA-256 of products and quantities, independent of their order."""
    text = ",".join(f"{product}:{quantity}" for product, quantity in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()


def mark(order: Order) -> None:
    """Set ``duplicate`` of a new order if its customer placed the same one within ``DUPLICATE_ORDER_WINDOW``. Once."""
    if MARKED in vars(order):
        return
    vars(order)[MARKED] = True
    window_start = timezone.now() - timedelta(minutes=settings.DUPLICATE_ORDER_WINDOW)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM store_order WHERE customer_id = %s AND fingerprint = %s AND placed_at >= %s LIMIT 1",
            [order.customer_id, order.fingerprint, connection.ops.adapt_datetimefield_value(window_start)],
        )
        order.duplicate = cursor.fetchone() is not None
