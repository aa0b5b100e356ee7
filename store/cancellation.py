"""Cancellation of orders: the stock is returned and receivers are notified, in one transaction."""

from django.db import transaction
from django.db.models import QuerySet

from store import inventory
from store.models import Order
from store.placing import let_go
from store.refusals import NotCancellable
from store.signals import order_cancelled


def cancel_order(order_id: int, *, among: QuerySet[Order]) -> Order:
    """
    Cancel an order of ``among`` and return its stock. An unpaid order expires instead.

    The order's row is locked first, as in ``update_inventory``: the second of the two sees what the first has done, so
    stock comes back exactly once, settled or not.

    Raises:
        Order.DoesNotExist: the order is not among ``orders``.
        NotCancellable: the order was shipped, or was already cancelled.
    """
    with transaction.atomic():
        order = among.select_for_update(of=("self",), no_key=True).get(pk=order_id)
        if order.status == Order.Status.UNPAID:  # It was never announced as placed.
            let_go(order.pk)
            order.refresh_from_db()
            return order
        if order.status != Order.Status.PLACED:
            raise NotCancellable(f"This order is {order.status} and can no longer be cancelled.")
        inventory.give_back(order.pk)
        order.status = Order.Status.CANCELLED
        order.save(update_fields=["status"])
        order_cancelled.send_robust(sender=Order, order=order)
    return order
