"""Shipping of orders, which ends the time for cancelling, and delivery; both are announced."""

from django.db import transaction
from django.utils import timezone

from celery_ledger import DurableSignal, collecting
from celery_ledger.faults import crash_point
from store.models import Order
from store.signals import order_delivered, order_shipped


def ship_orders(order_ids: list[int]) -> list[Order]:
    """
    Mark the placed orders among these as shipped, and return them.

    Their rows are locked, as in a cancellation: the second of the two sees what the first has done.
    """
    return _move(order_ids, before=Order.Status.PLACED, after=Order.Status.SHIPPED, happened=order_shipped)


def deliver_orders(order_ids: list[int]) -> list[Order]:
    """Mark the shipped orders among these as delivered, and return them."""
    return _move(order_ids, before=Order.Status.SHIPPED, after=Order.Status.DELIVERED, happened=order_delivered)


def _move(order_ids: list[int], *, before: str, after: str, happened: DurableSignal) -> list[Order]:
    with transaction.atomic():
        orders = list(
            Order.objects.select_for_update(of=("self",), no_key=True)
            .filter(pk__in=order_ids, status=before)
            .order_by("pk")
        )
        moment = {f"{after}_at": timezone.now()}
        Order.objects.filter(pk__in=[order.pk for order in orders]).update(status=after, **moment)
        with collecting():
            for order in orders:
                order.status = after
                vars(order).update(moment)
                happened.send_robust(sender=Order, order=order)
        if transaction.get_rollback():
            raise transaction.TransactionManagementError(f"A receiver broke the transaction of {happened.name}.")
        crash_point("shipping.before_commit")
    crash_point("shipping.after_commit")
    return orders
