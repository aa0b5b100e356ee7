"""
The promises of analytics, checked by ``manage.py outbox verify``: no sale is lost or counted twice.

A pending sale, or one given up as a dead letter, has its task in the ledger and is accounted for. The number of queries
does not grow with the orders.
"""

from collections.abc import Iterator

from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet

from analytics_app.models import SaleRecord
from celery_ledger.promises import is_owed
from celery_ledger.walking import walk, walk_keys
from store.models import Order

# Each counting sale subtracts its lines from the daily sales: nothing may be left of either.
UNLIKE_THEIR_SALES = """
    SELECT day, product_id, sum(orders), sum(units), round(sum(revenue), 2) FROM (
        SELECT day, product_id, orders, units, revenue FROM analytics_app_dailysales
        UNION ALL
        SELECT sale.day, line.product_id, -1, -line.quantity, -(line.quantity * line.unit_price)
        FROM analytics_app_salerecord AS sale
        JOIN store_orderitem AS line ON line.order_id = sale.order_id
        WHERE sale.reversed_at IS NULL
    ) AS entry
    GROUP BY day, product_id
    HAVING sum(orders) <> 0 OR sum(units) <> 0 OR round(sum(revenue), 2) <> 0
    ORDER BY day, product_id
"""

UNLIKE_THEIR_LINES = """
    SELECT sale.order_id
    FROM analytics_app_salerecord AS sale
    LEFT JOIN store_orderitem AS line ON line.order_id = sale.order_id
    GROUP BY sale.order_id, sale.units, sale.revenue
    HAVING sale.units <> coalesce(sum(line.quantity), 0)
        OR round(sale.revenue - coalesce(sum(line.quantity * line.unit_price), 0), 2) <> 0
    ORDER BY sale.order_id
"""


def orders_without_sale() -> Iterator[str]:
    """Yield a line for each order that is neither recorded nor otherwise explained."""
    unrecorded = Order.objects.placed().filter(~Exists(SaleRecord.objects.filter(order=OuterRef("pk"))))
    for order_id in _unaccounted_for(unrecorded, "record_sale", "enqueue_sale"):
        yield f"order {order_id} has no sale record, and no task that will write one"


def sales_not_as_their_orders() -> Iterator[str]:
    """Yield a line for each sale that contradicts the state of its order."""
    cancelled = Order.objects.filter(status=Order.Status.CANCELLED, sale__reversed_at=None, sale__isnull=False)
    for order_id in _unaccounted_for(cancelled, "reverse_sale", "enqueue_sale_reversal"):
        yield f"order {order_id} is cancelled, but its sale is not reversed, and no task will reverse it"
    standing = SaleRecord.objects.exclude(reversed_at=None).exclude(order__status=Order.Status.CANCELLED)
    for sale in walk(standing):
        yield f"order {sale.order_id} is not cancelled, but its sale is reversed"


def sales_unlike_their_lines() -> Iterator[str]:
    """Yield a line for each sale whose units or revenue differ from its order's lines."""
    with connection.cursor() as cursor:
        cursor.execute(UNLIKE_THEIR_LINES)
        for (order_id,) in cursor:
            yield f"the sale of order {order_id} is not the sum of the order's lines"


def daily_sales_unlike_their_sales() -> Iterator[str]:
    """Yield a line for each day and product whose sums differ from the valid sales."""
    with connection.cursor() as cursor:
        cursor.execute(UNLIKE_THEIR_SALES)
        for day, product_id, orders, units, revenue in cursor:
            yield (
                f"{day} product {product_id}: the daily sales are off "
                f"by {orders} orders, {units} units and {revenue} of revenue"
            )


def _unaccounted_for(orders: QuerySet[Order], task: str, receiver: str) -> Iterator[int]:
    owed = is_owed(
        f"analytics_app.tasks.{task}", receiver=f"analytics_app.{receiver}", model="store.order", moment="placed_at"
    )
    return walk_keys(orders.exclude(owed))
