"""
The steps of a checkout: take the cart, price its lines, reserve them, write the order.

Called by ``CreateOrderSerializer.save`` inside its transaction. This module neither announces the order nor answers the
client; if something is impossible it raises, and the transaction is rolled back.

The SQL is written by hand: every order passes through here while it holds the stock of its products, and building the
statements with the ORM took four times as long as running them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from celery_ledger.faults import crash_point
from store import duplicates, inventory
from store.models import Customer, Order, OrderItem, ShippingAddress
from store.round_trips import one_round_trip

#: The largest total that the column can hold: 18 digits, two of them decimals.
MAX_TOTAL: Final = Decimal(10) ** 16
#: The period within which a customer's orders of a product count towards ``CUSTOMER_QUANTITY_LIMIT``.
LIMIT_PERIOD: Final = timedelta(hours=24)
CENT: Final = Decimal("0.01")


@contextmanager
def one_transaction() -> Iterator[None]:
    """Run a whole checkout in one transaction: committed at the end of the block, rolled back by an error."""
    with transaction.atomic():
        yield
        crash_point("checkout.before_commit")
    crash_point("checkout.after_commit")


class CartNotFound(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The cart does not exist, or belongs to a different customer."""


class CartNotOrderable(Exception):  # noqa: N818 - As above.
    """The cart exists but cannot be ordered; the message says why."""


class TooMany(Exception):  # noqa: N818 - As above.
    """The customer would exceed the limit of ``products``, each with the quantity that is left."""

    def __init__(self, products: dict[int, int]) -> None:
        super().__init__(f"too many of products {sorted(products)}")
        self.products = products


class Line(NamedTuple):
    """A quantity of a product, at its price."""

    product_id: int
    sku: str
    title: str
    quantity: int
    unit_price: Decimal
    currency: str
    low_stock_threshold: int = 0


def take_cart(cart_id: UUID, customer: Customer) -> list[Line]:
    """
    Remove the cart and return its lines, in order and at current prices.

    Deleting its row locks the cart: a concurrent checkout waits here, and then finds it gone. Changes to its lines take
    the same lock, so no line is lost or added unnoticed.

    Raises:
        CartNotFound: the cart is unknown, gone, or another customer's.
        CartNotOrderable: the cart has no lines.
    """
    id = cart_id if connection.features.has_native_uuid_field else cart_id.hex
    with connection.cursor() as cart, connection.cursor() as cursor:
        with one_round_trip():
            cart.execute(
                "DELETE FROM store_cart WHERE id = %s AND (customer_id IS NULL OR customer_id = %s)", [id, customer.pk]
            )
            cursor.execute(_TAKE_LINES[connection.vendor], {"cart": id})
        rows = cursor.fetchall()
        if not cart.rowcount:
            raise CartNotFound
        if connection.vendor == "sqlite":
            cursor.execute("DELETE FROM store_cartitem WHERE cart_id = %s", [id])
    if not rows:
        raise CartNotOrderable("The cart is empty.")
    return [
        Line(product_id, sku, title, quantity, _money(unit_price), currency, threshold)
        for _, product_id, sku, title, quantity, unit_price, currency, threshold in sorted(rows)
    ]


_LINE: Final = """
    item.id, product.id, product.sku, product.title, item.quantity, product.unit_price, product.currency,
    product.low_stock_threshold
"""
_TAKE_LINES: Final = {
    # Sent before it is known whether the cart was deleted: lines of a cart that is still there are not touched.
    "postgresql": f"""
        DELETE FROM store_cartitem AS item USING store_product AS product
        WHERE item.cart_id = %(cart)s AND product.id = item.product_id
            AND NOT EXISTS (SELECT 1 FROM store_cart WHERE id = %(cart)s)
        RETURNING {_LINE}
    """,  # noqa: S608 - Built of constants; every value is a parameter.
    "sqlite": f"""
        SELECT {_LINE} FROM store_cartitem AS item JOIN store_product AS product ON product.id = item.product_id
        WHERE item.cart_id = %(cart)s
    """,  # noqa: S608 - As above.
}


def write_order(
    lines: Sequence[Line],
    *,
    cart_id: UUID,
    customer: Customer,
    status: str = Order.Status.PLACED,
    address: Mapping[str, str] | None = None,
) -> Order:
    """
    Reserve the stock of ``lines`` and write their order, with its shipping address if given.

    Raises:
        inventory.NotEnoughStock: names each product that falls short.
        TooMany: the customer would have more of a product than ``CUSTOMER_QUANTITY_LIMIT`` within a day.
        CartNotOrderable: the products are priced in several currencies, or the total is too large to store.
    """
    total = sum((line.quantity * line.unit_price for line in lines), start=Decimal(0))
    if total >= MAX_TOTAL:
        raise CartNotOrderable("The total is more than an order can hold.")
    currency, *others = {line.currency for line in lines}
    if others:
        raise CartNotOrderable("The products are priced in different currencies; order them separately.")
    left = inventory.reserve({line.product_id: line.quantity for line in lines})
    if settings.CUSTOMER_QUANTITY_LIMIT:
        _keep_within_limit(lines, customer, int(settings.CUSTOMER_QUANTITY_LIMIT))
    low = [
        line.product_id
        for line in lines
        if inventory.fell_below(
            line.low_stock_threshold, before=left[line.product_id] + line.quantity, after=left[line.product_id]
        )
    ]
    if low:
        inventory.announce_low(low)
    order = Order(
        customer=customer,
        cart_id=cart_id,
        status=status,
        fingerprint=duplicates.fingerprint_of_lines((line.product_id, line.quantity) for line in lines),
        total=total,
        currency=currency,
    )
    duplicates.mark(order)
    order.save(force_insert=True)
    parameters: list[Any] = []
    for line in lines:
        parameters += (order.pk, line.product_id, line.quantity, _price(line.unit_price))
    with connection.cursor() as cursor:
        cursor.execute(_WRITE_LINES + ", ".join(["(%s, %s, %s, %s)"] * len(lines)), parameters)
    if address:
        ShippingAddress.objects.create(order=order, **address)
    return order


def _keep_within_limit(lines: Sequence[Line], customer: Customer, limit: int) -> None:
    """Refuse quantities over the limit. Orders of the same product are serialised by its locked stock row."""
    since = timezone.now() - LIMIT_PERIOD
    recent = OrderItem.objects.filter(
        order__customer=customer, order__placed_at__gte=since, product__in=[line.product_id for line in lines]
    ).exclude(order__status__in=[Order.Status.CANCELLED, Order.Status.EXPIRED])
    had = dict(recent.order_by().values_list("product").annotate(n=Sum("quantity")))
    left = {line.product_id: max(0, limit - had.get(line.product_id, 0)) for line in lines}
    if over := {line.product_id: left[line.product_id] for line in lines if line.quantity > left[line.product_id]}:
        raise TooMany(over)


_WRITE_LINES: Final = "INSERT INTO store_orderitem (order_id, product_id, quantity, unit_price) VALUES "


def _money(value: Any) -> Decimal:
    """Return a price from the database, to the cent: SQLite has no decimals and returns floats."""
    return value if isinstance(value, Decimal) else Decimal(str(value)).quantize(CENT)


def _price(value: Decimal) -> Any:
    return connection.ops.adapt_decimalfield_value(value, max_digits=12, decimal_places=2)
