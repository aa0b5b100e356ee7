"""
Load a shop's export: catalogue, customers and opening stock.

Called by ``manage.py import_retail``. One transaction: everything is loaded, or nothing. A second run changes nothing.
No registration signal and no mail is sent, because these customers did not register. Changes of products and stock are
announced as after an edit.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils.text import slugify

from retail.export import Export, pick_title
from store import bulk, prices
from store.models import Customer, Product, Stock

#: Rows per statement. SQLite accepts at least 999 parameters; PostgreSQL gains little beyond this.
BATCH = 500

#: The fields of an existing product that an import updates.
UPDATED = ("title", "slug", "unit_price")

Progress = Callable[[int], object]
Item = TypeVar("Item")


@dataclass(slots=True)
class Imported:
    """The results of an import: counts of rows."""

    customers: Counter[str] = field(default_factory=Counter)
    products: Counter[str] = field(default_factory=Counter)
    stock: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Article:
    """A product of the export. ``sold`` is the quantity sold by all invoices."""

    sku: str
    title: str
    unit_price: Decimal
    sold: int

    @property
    def slug(self) -> str:
        return f"{slugify(self.title)[:180]}-{self.sku.lower()}".strip("-")


def collect_articles(export: Export) -> list[Article]:
    """
    Return a product for each code that is sold at a price at least once, sorted by code.

    Its price is the most frequent one, its title the most frequent good description; of equals, the first.
    """
    titles: defaultdict[str, list[str]] = defaultdict(list)
    prices: defaultdict[str, Counter[Decimal]] = defaultdict(Counter)
    sold: Counter[str] = Counter()
    for invoice in export.invoices.values():
        for line in invoice.sales:
            titles[line.sku].append(line.description)
            prices[line.sku][line.price] += 1
            sold[line.sku] += line.quantity
    return [
        Article(sku, pick_title(sku, titles[sku]), prices[sku].most_common(1)[0][0], sold[sku]) for sku in sorted(sold)
    ]


def collect_customers(export: Export) -> dict[str, str]:
    """
    Return the country of every customer, by username.

    That is each customer that the export names, and a guest for each invoice that names none and sells.
    """
    countries: dict[str, str] = {}
    for invoice in export.invoices.values():
        if invoice.customer or invoice.sales:
            countries.setdefault(invoice.username, invoice.country)
    return countries


def import_export(
    export: Export, *, opening_stock: Callable[[int], int], progress: Progress = lambda rows: None
) -> Imported:
    """
    Load ``export`` and return the results. ``opening_stock`` maps the quantity sold to a product's stock.

    Customers are only ever added. Products are added, or given the export's title and price. Stock is set
    for products that have never moved and of which none is reserved; all other stock is left alone.
    ``progress`` is called after each portion of rows.
    """
    done = Imported()
    articles = collect_articles(export)
    with transaction.atomic():
        _load_customers(collect_customers(export), done, progress)
        _load_products(articles, done, progress)
        _load_stock({article.sku: opening_stock(article.sold) for article in articles}, done, progress)
    return done


def count_rows(export: Export) -> int:
    """Return how many rows :func:`import_export` will report to its ``progress``."""
    return len(collect_customers(export)) + 2 * len(collect_articles(export))


def _load_customers(countries: dict[str, str], done: Imported, progress: Progress) -> None:
    users = get_user_model()._default_manager
    for names in _batches(list(countries)):
        known = set(users.filter(username__in=names).values_list("username", flat=True))
        users.bulk_create(
            users.model(username=name, email=f"{name}@retail.example", password=make_password(None))
            for name in names
            if name not in known
        )
        without = users.filter(username__in=names, customer=None).values_list("pk", "username")
        added = Customer.objects.bulk_create(
            Customer(user_id=pk, country=countries[name]) for pk, name in without.order_by("pk")
        )
        done.customers["added"] += len(added)
        done.customers["unchanged"] += len(names) - len(added)
        progress(len(names))


def _load_products(articles: list[Article], done: Imported, progress: Progress) -> None:
    for batch in _batches(articles):
        known = Product.objects.select_for_update().in_bulk([article.sku for article in batch], field_name="sku")
        added: list[Product] = []
        changed: list[bulk.Change[Product]] = []
        old_prices: list[tuple[Product, Decimal]] = []
        for article in batch:
            product = known.get(article.sku)
            if product is None:
                added.append(
                    Product(sku=article.sku, title=article.title, slug=article.slug, unit_price=article.unit_price)
                )
                continue
            before = {
                name: getattr(product, name) for name in UPDATED if getattr(product, name) != getattr(article, name)
            }
            if "unit_price" in before:
                old_prices.append((product, product.unit_price))
            for name in UPDATED:
                setattr(product, name, getattr(article, name))
            if before:
                changed.append(bulk.Change(product, before, {name: getattr(product, name) for name in before}))
            done.products[
                "price changed" if "unit_price" in before else "title changed" if before else "unchanged"
            ] += 1
        Product.objects.bulk_create(added)
        Product.objects.bulk_update([change.thing for change in changed], UPDATED)
        prices.record_changes(old_prices)
        bulk.announce(Product, [*map(bulk.made, added), *changed])
        done.products["added"] += len(added)
        progress(len(batch))


def _load_stock(opening: dict[str, int], done: Imported, progress: Progress) -> None:
    for skus in _batches(list(opening)):
        products = dict(Product.objects.filter(sku__in=skus).values_list("pk", "sku"))
        # Locked in the order in which a checkout locks them.
        rows = Stock.objects.select_for_update().filter(product__in=products).order_by("product_id")
        known = {stock.product_id: stock for stock in rows}
        moved = set(
            Product.objects.filter(pk__in=known, movements__isnull=False).values_list("pk", flat=True).distinct()
        )
        added: list[Stock] = []
        changed: list[bulk.Change[Stock]] = []
        for product_id, sku in sorted(products.items()):
            stock = known.get(product_id)
            if stock is None:
                added.append(Stock(product_id=product_id, on_hand=opening[sku]))
            elif product_id in moved or stock.reserved:
                done.stock["left alone: in use"] += 1
            elif stock.on_hand == opening[sku]:
                done.stock["unchanged"] += 1
            else:
                changed.append(bulk.Change(stock, {"on_hand": stock.on_hand}, {"on_hand": opening[sku]}))
                stock.on_hand = opening[sku]
        Stock.objects.bulk_create(added)
        Stock.objects.bulk_update([change.thing for change in changed], ["on_hand"])
        bulk.announce(Stock, [*map(bulk.made, added), *changed])
        done.stock["added"] += len(added)
        done.stock["reset"] += len(changed)
        progress(len(skus))


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
