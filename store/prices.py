"""Product prices, and changes of prices, each with a record."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from django.db import transaction
from django.db.models import QuerySet

from celery_ledger import collecting
from celery_ledger.context import current_actor
from store import bulk
from store.models import PriceChange, Product
from store.signals import product_price_changed

#: How many rows one statement handles.
BATCH = 500
CENT = Decimal("0.01")


def lock_price(product_id: int) -> Decimal | None:
    """Return a product's price, locked until the commit, or None if there is no such product."""
    row = Product.objects.select_for_update(no_key=True).filter(pk=product_id).values_list("unit_price", flat=True)
    return row.first()


def record_changes(changes: Sequence[tuple[Product, Decimal]]) -> None:
    """
    Record and announce the new prices of products, each given with its old price.

    Called in the transaction that changes them. The number of queries grows with every ``BATCH`` of changes, not with
    each one.
    """
    who = current_actor()
    PriceChange.objects.bulk_create(
        (PriceChange(product=product, old=old, new=product.unit_price, who_id=who) for product, old in changes),
        batch_size=BATCH,
    )
    with collecting():
        for product, old in changes:
            product_price_changed.send_robust(sender=Product, product=product, old=old, new=product.unit_price)


def change_prices(products: QuerySet[Product], *, percent: Decimal) -> int:
    """
    Change the prices of ``products`` by ``percent``, to at least one cent; return how many changed.

    One transaction, with a number of queries that grows with every ``BATCH`` of products.
    """
    changed = 0
    with transaction.atomic():
        ids = list(products.order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(ids), BATCH):
            changes: list[tuple[Product, Decimal]] = []
            batch = Product.objects.filter(pk__in=ids[start : start + BATCH])
            for product in batch.select_for_update(no_key=True).order_by("pk"):
                old = product.unit_price
                product.unit_price = max(CENT, (old * (100 + percent) / 100).quantize(CENT, ROUND_HALF_UP))
                if product.unit_price != old:
                    changes.append((product, old))
            Product.objects.bulk_update([product for product, _ in changes], ["unit_price"])
            record_changes(changes)
            bulk.announce(
                Product,
                [
                    bulk.Change(product, {"unit_price": old}, {"unit_price": product.unit_price})
                    for product, old in changes
                ],
            )
            changed += len(changes)
    return changed
