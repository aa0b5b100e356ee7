"""
Stock: quantities on hand and reserved, and how each changes.

Called by the checkout, by cancellation and by ``store.tasks.update_inventory``, inside their transactions. Each change
is one statement for all products, and rows are locked in product order, so that orders of the same products wait for
each other and do not deadlock.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from celery_ledger import collecting
from store.models import Order, Product, Stock
from store.signals import orders_settled, stock_low


@dataclass(frozen=True)
class Shortage:
    """A product with less available stock than requested."""

    product_id: int
    asked: int
    available: int


class NotEnoughStock(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """Some products have too little stock. The transaction must be rolled back."""

    def __init__(self, shortages: list[Shortage]) -> None:
        super().__init__(f"not enough stock of products {[shortage.product_id for shortage in shortages]}")
        self.shortages = shortages


class StockOutOfStep(Exception):  # noqa: N818 - As above.
    """Products of an order have no stock row; this needs a person's attention."""


def reserve(quantities: Mapping[int, int]) -> dict[int, int]:
    """
    Reserve ``quantities`` (product id to number) for an order: all of them, or none.

    Returns how many of each product are still available to others.

    Raises:
        NotEnoughStock: names every product that falls short, with what is available.
    """
    reserved = _change_stock("reserved = reserved + wanted.n", "on_hand - reserved >= wanted.n", quantities)
    if len(reserved) < len(quantities):
        short = {product_id: asked for product_id, asked in quantities.items() if product_id not in reserved}
        stock = Stock.objects.in_bulk(short)
        raise NotEnoughStock(
            [Shortage(id, asked, stock[id].available if id in stock else 0) for id, asked in sorted(short.items())]
        )
    return reserved


def fell_below(threshold: int, *, before: int, after: int) -> bool:
    """
    Whether this change took the available quantity below ``threshold``; 0 disables the check.

    A product's changes happen one after the other, because its row is locked: each crossing belongs to one change.
    """
    return after < threshold <= before


def announce_low(product_ids: Collection[int]) -> None:
    """Send ``stock_low`` for each product, in this transaction."""
    with collecting():
        for product in Product.objects.filter(pk__in=product_ids).order_by("pk"):
            stock_low.send_robust(sender=Product, product=product)


def release(quantities: Mapping[int, int]) -> None:
    """Release a reservation that was not settled yet."""
    _change_all("reserved = reserved - wanted.n", quantities)


def settle(order_ids: list[int]) -> int:
    """
    Turn the reservations of these orders into goods that have left; return the number of lines.

    Writes one ``sale`` movement per line. Cancelled orders, and lines that already have their movement, are skipped, so
    settling twice has no further effect. The orders are locked first, because a cancellation may be in progress. Commit
    right afterwards: the server disconnects a worker that hangs with the stock locked after a few seconds. Sends
    ``orders_settled`` before any stock is locked.
    """
    if not order_ids:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO store_stockmovement (product_id, order_id, quantity, reason, created_at)
            SELECT line.product_id, line.order_id, -line.quantity, 'sale', %s
            FROM (
                SELECT id FROM store_order
                WHERE id IN ({_places(order_ids)}) AND status NOT IN ('cancelled', 'unpaid', 'expired')
                ORDER BY id {_LOCKED[connection.vendor]}
            ) AS placed
            JOIN store_orderitem AS line ON line.order_id = placed.id
            ORDER BY line.id
            ON CONFLICT (order_id, product_id, reason) DO NOTHING
            RETURNING order_id, product_id, -quantity
            """,  # noqa: S608 - Only %s marks are put in.
            [_now(), *order_ids],
        )
        settled = cursor.fetchall()
    if settled:  # Before the stock is locked: a receiver may take its time.
        orders_settled.send_robust(sender=Order, orders=sorted({order_id for order_id, _, _ in settled}))
    lines = [(product_id, quantity) for _, product_id, quantity in settled]
    _change_all("on_hand = on_hand - wanted.n, reserved = reserved - wanted.n", _sums(lines), then_commits=True)
    return len(lines)


def give_back(order_id: int) -> None:
    """
    Undo the effects of a cancelled order on stock, whether settled or only reserved.

    Goods that had left come back with one ``cancel`` movement per line. Lock the order first, and call this once per
    order.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO store_stockmovement (product_id, order_id, quantity, reason, created_at)
            SELECT product_id, order_id, -quantity, 'cancel', %s
            FROM store_stockmovement WHERE order_id = %s AND reason = 'sale'
            ORDER BY id
            RETURNING product_id, quantity
            """,
            [_now(), order_id],
        )
        returned = cursor.fetchall()
        if returned:
            _change_all("on_hand = on_hand + wanted.n", _sums(returned))
            return
        cursor.execute("SELECT product_id, quantity FROM store_orderitem WHERE order_id = %s", [order_id])
        promised = cursor.fetchall()
    release(_sums(promised))


#: SQLite has one writer at a time.
_LOCKED: Final = {"postgresql": "FOR NO KEY UPDATE", "sqlite": ""}

# Both databases evaluate the condition on the newest version of a row: PostgreSQL because ``locked``
# waits for it, SQLite because it has one writer.
_STATEMENTS: Final = {
    "postgresql": """
        WITH wanted AS (SELECT pair.* FROM unnest(%s::bigint[], %s::bigint[]) AS pair(product_id, n){patience}),
        locked AS (
            SELECT stock.product_id FROM store_stock AS stock JOIN wanted USING (product_id)
            ORDER BY stock.product_id FOR NO KEY UPDATE OF stock
        )
        UPDATE store_stock SET {change} FROM wanted JOIN locked USING (product_id)
        WHERE store_stock.product_id = wanted.product_id AND {condition}
        RETURNING store_stock.product_id, store_stock.on_hand - store_stock.reserved
    """,
    "sqlite": """
        WITH wanted AS (SELECT value ->> 0 AS product_id, value ->> 1 AS n FROM json_each(%s))
        UPDATE store_stock SET {change} FROM wanted
        WHERE store_stock.product_id = wanted.product_id AND {condition}
        RETURNING store_stock.product_id, store_stock.on_hand - store_stock.reserved
    """,
}


#: If a worker is suspended while it holds the stock of a batch, the server ends its session after this time, which is
#: less than a checkout waits for a row. Only for a transaction that does nothing else: a receiver may take longer.
_FALLS_SILENT_FOR: Final = ", (SELECT set_config('idle_in_transaction_session_timeout', '4s', true)) AS patience"


def _change_stock(
    change: str, condition: str, quantities: Mapping[int, int], *, then_commits: bool = False
) -> dict[int, int]:
    """Update the rows that meet ``condition``; return the available quantity of each of their products."""
    parameters: list[Any] = (
        [list(quantities), list(quantities.values())]
        if connection.vendor == "postgresql"
        else [json.dumps(list(quantities.items()))]
    )
    with connection.cursor() as cursor:
        patience = _FALLS_SILENT_FOR if then_commits else ""
        statement = _STATEMENTS[connection.vendor]
        cursor.execute(statement.format(change=change, condition=condition, patience=patience), parameters)
        return dict(cursor.fetchall())


def _change_all(change: str, quantities: Mapping[int, int], *, then_commits: bool = False) -> None:
    if not quantities:
        return
    changed = _change_stock(change, "true", quantities, then_commits=then_commits)
    if missing := quantities.keys() - changed.keys():
        raise StockOutOfStep(f"The products {sorted(missing)} have no stock row.")


def _sums(lines: list[tuple[int, int]]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for product_id, quantity in lines:
        sums[product_id] = sums.get(product_id, 0) + quantity
    return sums


def _places(values: list[int]) -> str:
    return ", ".join(["%s"] * len(values))


def _now() -> Any:
    return connection.ops.adapt_datetimefield_value(timezone.now())
