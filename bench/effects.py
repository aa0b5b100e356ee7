"""The effects of an order's three tasks under every contender: one INSERT each."""

from collections.abc import Iterator, Sequence

from django.db.models import Count, Q

from bench.models import Effect, Order

KINDS = ("confirmation", "stock", "sale")


def write(kind: str, order_id: int) -> None:
    """One task's effect."""
    Effect.objects.create(order_id=order_id, kind=kind)


def write_all(kind: str, order_ids: Sequence[int]) -> None:
    """A batch's effects, in one statement."""
    Effect.objects.bulk_create(Effect(order_id=order_id, kind=kind) for order_id in order_ids)


def wrong_orders() -> Iterator[str]:
    """Yield a line for each order with a missing or duplicate effect."""
    each_once = {f"{kind}s": Count("effect", filter=Q(effect__kind=kind)) for kind in KINDS}
    orders = Order.objects.annotate(**each_once).exclude(**{f"{kind}s": 1 for kind in KINDS})
    for order in orders.iterator():
        counts = ", ".join(f"{getattr(order, f'{kind}s')} of {kind}" for kind in KINDS)
        yield f"order {order.pk} has {counts}"
