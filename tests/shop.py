"""The objects of the tests: users, products, carts, orders. A test names what matters to it; the rest is made up."""

import itertools
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from store.managers import MANAGERS
from store.models import Cart, CartItem, Customer, Order, OrderItem, Product, Stock

_numbers = itertools.count(1)


def make_user(**fields: Any) -> Any:
    number = next(_numbers)
    fields.setdefault("username", f"user{number}")
    fields.setdefault("email", f"user{number}@example.com")
    return get_user_model().objects.create_user(**fields)


def make_staff(*permissions: str, **fields: Any) -> Any:
    """A member of staff who has these permissions and no others."""
    user = make_user(is_staff=True, **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def make_customer(*, country: str = "", **fields: Any) -> Customer:
    customer: Customer = make_user(**fields).customer
    if country:
        customer.country = country
        customer.save()
    return customer


def make_product(*, stock: int | None = 100, price: str = "2.50", **fields: Any) -> Product:
    number = next(_numbers)
    fields.setdefault("sku", f"SKU{number}")
    fields.setdefault("title", f"Product {number}")
    product = Product.objects.create(slug=f"product-{number}", unit_price=Decimal(price), **fields)
    if stock is not None:
        Stock.objects.create(product=product, on_hand=stock)
    return product


def make_cart(lines: Mapping[Product, int], customer: Customer | None = None) -> Cart:
    cart = Cart.objects.create(customer=customer)
    CartItem.objects.bulk_create(CartItem(cart=cart, product=p, quantity=n) for p, n in lines.items())
    return cart


def make_order(
    *,
    customer: Customer | None = None,
    lines: int | Sequence[tuple[Product, int]] = 1,
    placed_at: datetime | None = None,
    **fields: Any,
) -> Order:
    """
    Write an order as the checkout leaves it, without its signal and its reservations.

    ``lines`` is a number of new products to order one of each, or pairs of product and quantity.
    """
    if isinstance(lines, int):
        lines = [(make_product(), 1) for _ in range(lines)]
    fields.setdefault("total", sum((product.unit_price * quantity for product, quantity in lines), Decimal(0)))
    order = Order.objects.create(customer=customer or make_customer(), cart_id=uuid.uuid4(), **fields)
    OrderItem.objects.bulk_create(
        OrderItem(order=order, product=product, quantity=quantity, unit_price=product.unit_price)
        for product, quantity in lines
    )
    if placed_at is not None:  # auto_now_add does not let it be set.
        Order.objects.filter(pk=order.pk).update(placed_at=placed_at)
        order.placed_at = placed_at
    return order


def api(user: Any = None) -> APIClient:
    """A client that hears a 500 as a client does, signed in as ``user`` (or a customer's user)."""
    client = APIClient(raise_request_exception=False)
    if user is not None:
        client.force_authenticate(getattr(user, "user", user))
    return client


def check_out(
    client: APIClient,
    cart: Cart | uuid.UUID | str,
    key: str | None = None,
    address: Mapping[str, Any] | None = None,
) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    wish = {"cart_id": str(getattr(cart, "id", cart))} | ({"shipping_address": address} if address else {})
    return client.post("/api/orders/", wish, format="json", headers=headers)


def place_order(customer: Customer | None = None, lines: Mapping[Product, int] | None = None, **wish: Any) -> Order:
    """Place an order over the API, by default of one new product by a new customer."""
    customer = customer or make_customer()
    answer = check_out(api(customer), make_cart(lines or {make_product(): 1}, customer), **wish)
    assert answer.status_code == 201, answer.content
    return Order.objects.get(pk=answer.json()["id"])


def all_at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run the calls in as many threads, started together, and return their results in order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            barrier.wait(timeout=30)
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def make_manager(**fields: Any) -> Any:
    """A member of staff who is told what needs a person, and who may edit the catalogue."""
    user = make_user(is_staff=True, is_superuser=True, **fields)
    user.groups.add(Group.objects.get_or_create(name=MANAGERS)[0])
    return user


def browser_of(user: Any) -> Client:
    """A browser in which ``user`` is signed in."""
    client = Client()
    client.force_login(user)
    return client


def edit_in_admin(user: Any, thing: Any, **changes: Any) -> Any:
    """Change ``thing`` as ``user`` does with its form in the admin, whose inlines stay as they are."""
    client = browser_of(user)
    name = f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change"
    form = client.get(reverse(name, args=[thing.pk])).context["adminform"].form
    fields = {**form.initial, **changes}
    for formset in client.get(reverse(name, args=[thing.pk])).context["inline_admin_formsets"]:
        management = formset.formset.management_form
        fields |= {f"{management.prefix}-{key}": value for key, value in management.initial.items()}
        for row in formset.formset.forms:
            fields |= {
                f"{row.prefix}-{key}": value
                for key, value in row.initial.items()
                if f"{row.prefix}-{key}" not in fields
            }
    for bound in form:
        if bound.field.show_hidden_initial:
            fields[bound.html_initial_name] = (
                fields[bound.name] if bound.name not in changes else form.initial[bound.name]
            )
    fields = {key: "" if value is None else value for key, value in fields.items()}
    response = client.post(reverse(name, args=[thing.pk]), fields)
    assert response.status_code == 302, response.context["errors"]
    return response
