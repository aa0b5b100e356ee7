"""Sending orders out: from then on they cannot be cancelled."""

from django.db import transaction

from store.models import Order


def ship_orders(order_ids: list[int]) -> list[Order]:
    """
    Mark the orders that stand as shipped, and return them.

    Their rows are locked, as a cancellation does: whichever comes second finds what the first has done.
    """
    with transaction.atomic():
        orders = list(
            Order.objects.select_for_update(of=("self",), no_key=True)
            .filter(pk__in=order_ids, status=Order.Status.PLACED)
            .order_by("pk")
        )
        Order.objects.filter(pk__in=[order.pk for order in orders]).update(status=Order.Status.SHIPPED)
    return orders
