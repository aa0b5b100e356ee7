"""
Counts orders: a record for each, and sums by day and product. Called by tasks.py.

Promises that an order counts exactly once while it stands and not at all once it is cancelled, whichever of
:func:`record` and :func:`reverse` comes first and however often, and that the number of queries does not depend on the
number of orders. Sale records are locked before daily sales, each kind in the order of its key, so two workers never
deadlock.
"""

from collections.abc import Collection, Iterable, Sequence

from django.db import connection, transaction
from django.db.models.functions import Now

from analytics_app.models import SaleRecord
from celery_ledger.errors import PermanentError
from store.models import Order

#: The UTC day of an order, and the current time, in each database's SQL.
UTC_DAY = {"postgresql": "(store_order.placed_at AT TIME ZONE 'UTC')::date", "sqlite": "date(store_order.placed_at)"}
NOW = {"postgresql": "statement_timestamp()", "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"}

# An order that is cancelled before it is recorded gets a record that is reversed from the start.
# Return the time itself: for IS NOT NULL, SQLite 3.40 returns true in every row here.
RECORD = """
    INSERT INTO analytics_app_salerecord (order_id, day, country, units, revenue, currency, reversed_at)
    SELECT store_order.id, {day}, store_customer.country,
           coalesce(sum(quantity), 0), coalesce(round(sum(quantity * unit_price), 2), 0), store_order.currency,
           CASE WHEN store_order.status = 'cancelled' THEN {now} END
    FROM store_order
    JOIN store_customer ON store_customer.id = store_order.customer_id
    LEFT JOIN store_orderitem ON store_orderitem.order_id = store_order.id
    WHERE store_order.id IN ({ids})
    GROUP BY store_order.id, store_customer.id
    ORDER BY store_order.id
    ON CONFLICT (order_id) DO NOTHING
    RETURNING order_id, day, reversed_at
"""

ADD = """
    INSERT INTO analytics_app_dailysales AS daily (day, product_id, orders, units, revenue)
    SELECT sale.day, line.product_id, {sign} * count(*), {sign} * sum(line.quantity),
           {sign} * round(sum(line.quantity * line.unit_price), 2)
    FROM {sales} AS sale
    JOIN store_orderitem AS line ON line.order_id = sale.order_id
    WHERE sale.{counting}
    GROUP BY sale.day, line.product_id
    ORDER BY sale.day, line.product_id
    ON CONFLICT (day, product_id) DO UPDATE
    SET orders = daily.orders + excluded.orders, units = daily.units + excluded.units,
        revenue = round(daily.revenue + excluded.revenue, 2)
"""

#: Both at once, which SQLite cannot do.
RECORD_AND_ADD = "WITH written AS ({record}), added AS ({add}) SELECT order_id FROM written"

# Only rows that ADD has already locked.
DROP_EMPTY = """
    DELETE FROM analytics_app_dailysales
    WHERE orders = 0 AND (day, product_id) IN (
        SELECT sale.day, line.product_id
        FROM analytics_app_salerecord AS sale
        JOIN store_orderitem AS line ON line.order_id = sale.order_id
        WHERE sale.order_id IN ({ids})
    )
"""


@transaction.atomic(savepoint=False)
def record(order_ids: Iterable[int]) -> None:
    """
    Write a missing sale record for each of these orders, and add valid orders to the daily sales.

    Raises:
        PermanentError: an order does not exist; nothing is recorded.
    """
    _record(set(order_ids))


@transaction.atomic(savepoint=False)
def reverse(order_ids: Iterable[int]) -> None:
    """
    Subtract the cancelled ones of these orders from the daily sales, once each.

    An order that was never recorded is recorded as reversed: it adds nothing now, and a later :func:`record` finds it
    done. An order that is not cancelled is recorded and counts. A day and product without a counting sale has no row.

    Raises:
        PermanentError: an order does not exist; nothing is reversed.
    """
    ids = set(order_ids)
    _record(ids)
    standing = SaleRecord.objects.filter(
        order_id__in=ids, reversed_at=None, order__status=Order.Status.CANCELLED
    ).order_by("order_id")
    cancelled = list(standing.select_for_update(of=("self",)).values_list("order_id", flat=True))
    SaleRecord.objects.filter(order_id__in=cancelled).update(reversed_at=Now())
    _add(cancelled, sign=-1)
    _drop_empty(cancelled)


def _record(ids: Collection[int]) -> None:
    """Write the missing records, and add those of valid orders to the daily sales."""
    if not ids:
        return
    vendor, sql = connection.vendor, RECORD
    if vendor == "postgresql":
        add = ADD.format(sales="written", counting="reversed_at IS NULL", sign=1)
        sql = RECORD_AND_ADD.format(record=RECORD, add=add)
    with connection.cursor() as cursor:
        cursor.execute(_about(ids, sql, day=UTC_DAY[vendor], now=NOW[vendor]), sorted(ids))
        written = cursor.fetchall()
    if vendor != "postgresql":
        _add([order_id for order_id, _, reversed_at in written if reversed_at is None], sign=1)
    if len(written) < len(ids):
        gone = set(ids).difference(SaleRecord.objects.filter(order_id__in=ids).values_list("order_id", flat=True))
        if gone:
            raise PermanentError(f"Orders that no longer exist: {', '.join(map(str, sorted(gone)))}.")


def _add(ids: Sequence[int], *, sign: int) -> None:
    """Add the recorded orders to the daily sales or, with ``sign`` -1, subtract them."""
    if ids:
        with connection.cursor() as cursor:
            sql = ADD.format(sales="analytics_app_salerecord", counting="order_id IN ({ids})", sign=sign)
            cursor.execute(_about(ids, sql), ids)


def _drop_empty(ids: Sequence[int]) -> None:
    """Delete daily sales of these orders that have dropped to zero."""
    if ids:
        with connection.cursor() as cursor:
            cursor.execute(_about(ids, DROP_EMPTY), ids)


def _about(ids: Collection[int], sql: str, **fragments: str) -> str:
    """Fill a statement with a placeholder for each id."""
    return sql.format(ids=", ".join(["%s"] * len(ids)), **fragments)
