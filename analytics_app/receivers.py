"""
Receivers of analytics, connected in apps.py; each enqueues one durable task.

The task's ledger row is a part of the order's transaction: a sale is owed if and only if that commits.
"""

from typing import Any

from analytics_app import tasks
from store.models import Order


def enqueue_sale(sender: object, order: Order, **kwargs: Any) -> None:
    """Add a placed order to the sales figures."""
    tasks.record_sale.delay(order.pk)


def enqueue_sale_reversal(sender: object, order: Order, **kwargs: Any) -> None:
    """Remove a cancelled order from the sales figures."""
    tasks.reverse_sale.delay(order.pk)
