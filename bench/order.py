"""
The order that every contender takes: three lines and a conditional stock update in one transaction.

The statements are those of the shop's checkout: one UPDATE for all lines' stock, one INSERT for the
order, one for its lines.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import cache

from django.db import connection, transaction

from bench.carts import RESERVE, Cart
from bench.models import Order, OrderLine, Product


def place(cart: Cart, enqueue: Callable[[Order], None]) -> Order:
    """Place one order and, inside its transaction, call ``enqueue`` for its tasks."""
    prices = catalogue()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(RESERVE, [list(cart), list(cart.values())])
            if len(cursor.fetchall()) < len(cart):
                raise RuntimeError("The bench's stock has run out.")
        order = Order.objects.create(total=sum((prices[id] * n for id, n in cart.items()), start=Decimal(0)))
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product_id=id, quantity=n, unit_price=prices[id]) for id, n in cart.items()
        )
        enqueue(order)
    return order


@cache
def catalogue() -> dict[int, Decimal]:
    """Return each product's price."""
    return dict(Product.objects.values_list("id", "unit_price"))
