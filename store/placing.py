"""
Placing of orders, at once or after payment, and expiry of unpaid ones.

The settlement of an order is a chord: the tasks that the receivers of ``order_created`` call are its header, and its
body records that all of them are done, and how long that took. Tasks that the receivers of ``order_announced`` call are
written by the same statement, but not waited for.

Called inside a transaction: the checkout's, or that of the payments app, where the order's row is locked first, as in a
cancellation.
"""

from celery import Signature
from django.db import transaction
from django.utils import timezone

from celery_ledger import collecting
from celery_ledger.context import working_on
from store import inventory
from store.models import Order
from store.promises import SETTLEMENT
from store.signals import order_announced, order_created, order_expired


def announce(order: Order) -> None:
    """
    Announce that an order is placed, and record its settlement when all tasks that follow are done.

    Raises:
        TransactionManagementError: a receiver spoiled the transaction.
    """
    placed = {"order": order.pk, "at": timezone.now().isoformat()}
    with working_on(subject=order.subject), collecting():
        with collecting(Signature(SETTLEMENT, args=(placed,), immutable=True)):
            order_created.send_robust(sender=Order, order=order)
        order_announced.send_robust(sender=Order, order=order)
        if transaction.get_rollback():
            raise transaction.TransactionManagementError("A receiver of the order's signal broke the transaction.")


def place(order_id: int) -> bool:
    """Place and announce an order that waits for its payment; return whether it was waiting."""
    with transaction.atomic():
        order = _waiting(order_id)
        if order is None:
            return False
        order.status = Order.Status.PLACED
        order.save(update_fields=["status"])
        announce(order)
    return True


def let_go(order_id: int) -> bool:
    """Expire an order that waits for its payment and release its stock; return whether it was waiting."""
    with transaction.atomic():
        order = _waiting(order_id)
        if order is None:
            return False
        inventory.give_back(order.pk)
        order.status = Order.Status.EXPIRED
        order.save(update_fields=["status"])
        order_expired.send_robust(sender=Order, order=order)
    return True


def _waiting(order_id: int) -> Order | None:
    locked = Order.objects.select_for_update(of=("self",), no_key=True)
    return locked.filter(pk=order_id, status=Order.Status.UNPAID).first()
