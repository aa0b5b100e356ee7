"""Sending orders out, from when on they cannot be cancelled, and their arrival."""

from django.db import transaction

from store.models import Order


def ship_orders(order_ids: list[int]) -> list[Order]:
    """
    Mark the placed orders among these as shipped, and return them.

    Their rows are locked, as a cancellation does: whichever comes second finds what the first has done.
    """
    return _move(order_ids, before=Order.Status.PLACED, after=Order.Status.SHIPPED)


def deliver_orders(order_ids: list[int]) -> list[Order]:
    """Mark the shipped orders among these as delivered, and return them."""
    return _move(order_ids, before=Order.Status.SHIPPED, after=Order.Status.DELIVERED)


def _move(order_ids: list[int], *, before: str, after: str) -> list[Order]:
    with transaction.atomic():
        orders = list(
            Order.objects.select_for_update(of=("self",), no_key=True)
            .filter(pk__in=order_ids, status=before)
            .order_by("pk")
        )
        Order.objects.filter(pk__in=[order.pk for order in orders]).update(status=after)
    return orders
