"""
The daily sales report for managers: figures, a table for spreadsheets, and a chart of recent weeks.

Cancelled orders do not count. Days are in UTC.
"""

import csv
import io
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db.models import Count, Sum

from analytics_app.models import DailySales, SaleRecord

#: Days in the picture, including the report's own.
DAYS_SHOWN: Final = 14
#: How many products the mail names; the table lists all.
PRODUCTS_NAMED: Final = 10
#: A spreadsheet treats a cell that begins with one of these as a formula.
FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Report:
    """
    The sales of ``day``.

    ``totals`` has a row of ``day``, ``currency``, ``orders``, ``units`` and ``revenue`` for each currency, the one
    with the highest revenue first; ``products`` a row of those and ``sku``, ``title`` for each product, the best
    first; ``revenues`` the revenue of each day shown, oldest first, in ``currency``: that of the first total or, if
    nothing was sold that day, of the latest sale.
    """

    day: date
    totals: list[dict[str, Any]]
    products: list[dict[str, Any]]
    revenues: list[tuple[date, Decimal]]
    currency: str

    @property
    def highest(self) -> Decimal:
        """The revenue of the best day in the chart."""
        return max(revenue for _, revenue in self.revenues)


def collect(day: date) -> Report:
    """Compile the report of ``day`` from the figures, in two queries."""
    standing = SaleRecord.objects.filter(reversed_at=None, day__gt=day - timedelta(days=DAYS_SHOWN), day__lte=day)
    by_day: list[Any] = list(
        standing.values("day", "currency")
        .annotate(orders=Count("pk"), units=Sum("units"), revenue=Sum("revenue"))
        .order_by("day", "-revenue")
    )
    totals = [row for row in by_day if row["day"] == day]
    currency = totals[0]["currency"] if totals else (by_day[-1]["currency"] if by_day else "")
    revenues = {row["day"]: row["revenue"] for row in by_day if row["currency"] == currency}
    days = [day - timedelta(days=ago) for ago in reversed(range(DAYS_SHOWN))]
    return Report(
        day=day,
        totals=totals,
        products=_products(day),
        revenues=[(each, revenues.get(each, Decimal(0))) for each in days],
        currency=currency,
    )


def as_csv(report: Report) -> str:
    """Return a table of all products sold, safe against formula injection in spreadsheets."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["day", "sku", "title", "orders", "units", "revenue", "currency"])
    for row in report.products:
        cells = [report.day.isoformat(), row["sku"], row["title"], row["orders"], row["units"]]
        writer.writerow([harmless(str(cell)) for cell in (*cells, f"{row['revenue']:.2f}", row["currency"])])
    return table.getvalue()


def harmless(cell: str) -> str:
    """Return ``cell`` so that no spreadsheet evaluates it: with an apostrophe if it might."""
    return f"'{cell}" if cell.startswith(FORMULA_SIGNS) else cell


def _products(day: date) -> list[dict[str, Any]]:
    rows = DailySales.objects.filter(day=day).select_related("product").order_by("-revenue", "product_id")
    return [
        {
            "sku": row.product.sku,
            "title": row.product.title,
            "orders": row.orders,
            "units": row.units,
            "revenue": row.revenue,
            "currency": row.product.currency,
        }
        for row in rows
    ]
