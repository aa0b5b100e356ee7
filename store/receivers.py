"""
The shop's own receivers, connected in ``apps.py``.

Receivers of durable signals enqueue tasks and return. Receivers of Django's own signals are part of the save that they
accompany, and an error of theirs undoes it.
"""

import logging
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from store import duplicates, inventory, prices, tasks
from store.customers import has_profile_in_memory, make_user_of
from store.models import Customer, Order, Product, Stock

logger = logging.getLogger(__name__)


def enqueue_inventory_update(sender: object, order: Order, **kwargs: Any) -> None:
    """An order is placed: settle its stock."""
    tasks.update_inventory.delay(order.pk)


def create_customer_profile(sender: object, instance: Any, created: bool, raw: bool, **kwargs: Any) -> None:
    """A user is new: create the customer profile."""
    if created and not raw and not has_profile_in_memory(instance):
        Customer.objects.create(user=instance)


def create_user_of_profile(sender: object, instance: Customer, raw: bool, **kwargs: Any) -> None:
    """A profile without a user is about to be saved: create its user, who cannot sign in yet."""
    if not raw and instance._state.adding and not instance.user_id:
        instance.user = make_user_of(instance)


def flag_duplicate(sender: object, instance: Order, raw: bool, **kwargs: Any) -> None:
    """An order is about to be saved: flag it if the customer just placed one with the same lines."""
    if not raw and instance._state.adding and instance.fingerprint:
        duplicates.mark(instance)


def notice_old_price(
    sender: object, instance: Product, raw: bool, update_fields: Collection[str] | None, **kwargs: Any
) -> None:
    """A product is about to be saved: remember its current price."""
    may_change = update_fields is None or "unit_price" in update_fields
    if may_change and not raw and not instance._state.adding:
        vars(instance)["_old_price"] = prices.lock_price(instance.pk)


def record_new_price(sender: object, instance: Product, **kwargs: Any) -> None:
    """Record and announce a product's price when it has changed."""
    old: Decimal | None = vars(instance).pop("_old_price", None)
    if old is None:
        return
    instance.unit_price = Product._meta.get_field("unit_price").to_python(instance.unit_price)
    if old != instance.unit_price:
        prices.record_changes([(instance, old)])


def log_price_change(sender: object, product: Product, old: Decimal, new: Decimal, **kwargs: Any) -> None:
    """A price changed: log it."""
    logger.info("The price of product %d changes: %s -> %s %s.", product.pk, old, new, product.currency)


def notice_old_stock(sender: object, instance: Stock, raw: bool, **kwargs: Any) -> None:
    """Stock is about to be edited: remember the available quantity."""
    if not raw and not instance._state.adding:
        vars(instance)["_old_stock"] = Stock.objects.select_for_update(no_key=True).filter(pk=instance.pk).first()


def announce_low_stock(sender: object, instance: Stock, **kwargs: Any) -> None:
    """Stock was edited: announce it if it fell below the product's threshold."""
    old: Stock | None = vars(instance).pop("_old_stock", None)
    if old and inventory.fell_below(
        instance.product.low_stock_threshold, before=old.available, after=instance.available
    ):
        inventory.announce_low([instance.product_id])
