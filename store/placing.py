"""
Orders that wait for their payment: placed when it has come, let go when it has not.

Called by the app that takes payments, inside its transaction. The order's row is locked first, as a cancellation does.
"""

from django.db import transaction

from store import inventory
from store.models import Order
from store.signals import order_created


def place(order_id: int) -> bool:
    """Place an order that waits for its payment, and say so to everybody; return whether it waited."""
    with transaction.atomic():
        order = _waiting(order_id)
        if order is None:
            return False
        order.status = Order.Status.PLACED
        order.save(update_fields=["status"])
        order_created.send_robust(sender=Order, order=order)
        if transaction.get_rollback():
            raise transaction.TransactionManagementError("A receiver of order_created spoiled the transaction.")
    return True


def let_go(order_id: int) -> bool:
    """Give back the stock of an order that waits for its payment; return whether it waited."""
    with transaction.atomic():
        order = _waiting(order_id)
        if order is None:
            return False
        inventory.give_back(order.pk)
        order.status = Order.Status.EXPIRED
        order.save(update_fields=["status"])
    return True


def _waiting(order_id: int) -> Order | None:
    locked = Order.objects.select_for_update(of=("self",), no_key=True)
    return locked.filter(pk=order_id, status=Order.Status.UNPAID).first()
