"""
Changes to carts.

Every change of a cart locks its row until the change is committed, and so does the checkout, which deletes it. So a
line is either in the order or its change is refused; it is never lost between the two.
"""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from store.models import MAX_CART_LINES, MAX_LINE_QUANTITY, Cart, CartItem, Customer, Product

#: How many carts one transaction deletes.
BATCH = 500


class LineRefused(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The line is not accepted; the message explains why."""


def add_to_cart(cart_id: UUID, product_id: int, quantity: int, *, among: QuerySet[Cart]) -> CartItem:
    """
    Add ``quantity`` of a product to a cart of ``among``, in addition to what it has.

    Raises:
        Cart.DoesNotExist, Product.DoesNotExist: there is no such cart or product.
        LineRefused: the line would be too large, or the cart would have too many lines.
    """
    with transaction.atomic():
        cart = _hold(cart_id, among)
        product = Product.objects.get(pk=product_id)
        item = cart.items.filter(product=product).first()
        if item is None:
            if cart.items.count() >= MAX_CART_LINES:
                raise LineRefused(f"A cart has at most {MAX_CART_LINES} lines.")
            return CartItem.objects.create(cart=cart, product=product, quantity=quantity)
        if item.quantity + quantity > MAX_LINE_QUANTITY:
            raise LineRefused(
                f"A line has at most {MAX_LINE_QUANTITY} of a product, and {item.quantity} are in the cart already."
            )
        item.product = product
        item.quantity += quantity
        item.save(update_fields=["quantity"])
        return item


def change_line(cart_id: UUID, item_id: int, quantity: int, *, among: QuerySet[Cart]) -> CartItem:
    """
    Set the quantity of a line.

    Raises:
        Cart.DoesNotExist, CartItem.DoesNotExist: there is no such cart or line.
    """
    with transaction.atomic():
        item = _hold(cart_id, among).items.select_related("product").get(pk=item_id)
        item.quantity = quantity
        item.save(update_fields=["quantity"])
        return item


def remove_line(cart_id: UUID, item_id: int, *, among: QuerySet[Cart]) -> None:
    """
    Remove a line.

    Raises:
        Cart.DoesNotExist, CartItem.DoesNotExist: there is no such cart or line.
    """
    with transaction.atomic():
        _hold(cart_id, among).items.get(pk=item_id).delete()


def drop_cart(cart_id: UUID, *, among: QuerySet[Cart]) -> None:
    """
    Delete a cart with its lines.

    Raises:
        Cart.DoesNotExist: there is no such cart.
    """
    with transaction.atomic():
        _hold(cart_id, among).delete()


def claim_cart(cart_id: UUID, customer: Customer, *, among: QuerySet[Cart]) -> None:
    """
    Assign a cart to the customer, so that no other customer can use it. Repeatable.

    Raises:
        Cart.DoesNotExist: there is no such cart.
    """
    with transaction.atomic():
        cart = _hold(cart_id, among)
        cart.customer = customer
        cart.save(update_fields=["customer"])


def drop_abandoned(*, older_than: timedelta) -> Iterator[int]:
    """
    Delete old carts in small transactions; yield the number deleted in each.

    A cart that is locked is in use, and is kept.
    """
    return _drop(Cart.objects.filter(created_at__lt=timezone.now() - older_than))


def drop_unused(*, older_than: timedelta) -> Iterator[int]:
    """Delete old, empty anonymous carts in the same way: clients can create any number of them."""
    return _drop(Cart.objects.filter(created_at__lt=timezone.now() - older_than, customer=None, items=None))


def _drop(carts: QuerySet[Cart]) -> Iterator[int]:
    while True:
        with transaction.atomic():
            old = carts.order_by("created_at").select_for_update(skip_locked=True, of=("self",))
            ids = list(old.values_list("pk", flat=True)[:BATCH])
            Cart.objects.filter(pk__in=ids).delete()
        if not ids:
            return
        yield len(ids)


def _hold(cart_id: UUID, among: QuerySet[Cart]) -> Cart:
    return among.select_for_update(no_key=True).get(pk=cart_id)
