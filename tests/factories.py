"""What most tests need to exist: people, products with stock, orders with lines."""

import uuid
from decimal import Decimal

import factory
from django.contrib.auth import get_user_model
from factory.django import DjangoModelFactory

from store.models import Customer, Order, OrderItem, Product, Stock


class UserFactory(DjangoModelFactory):
    """A user whose password is ``password``."""

    class Meta:
        model = get_user_model()

    username = factory.Sequence(lambda n: f"user{n}")
    email = factory.LazyAttribute(lambda user: f"{user.username}@example.com")

    @classmethod
    def _create(cls, model_class, *args, password="password", **kwargs):
        return model_class.objects.create_user(*args, password=password, **kwargs)


class CustomerFactory(DjangoModelFactory):
    """A customer and its user; the profile that registering makes is taken over."""

    class Meta:
        model = Customer

    user = factory.SubFactory(UserFactory)
    country = "United Kingdom"

    @classmethod
    def _create(cls, model_class, *args, user, **kwargs):
        return model_class.objects.update_or_create(user=user, defaults=kwargs)[0]


class ProductFactory(DjangoModelFactory):
    """A product with ``stock`` pieces on hand."""

    class Meta:
        model = Product

    sku = factory.Sequence(lambda n: f"SKU-{n}")
    title = factory.Sequence(lambda n: f"Product {n}")
    slug = factory.Sequence(lambda n: f"product-{n}")
    unit_price = Decimal("9.99")

    @classmethod
    def _create(cls, model_class, *args, stock=100, **kwargs):
        product = super()._create(model_class, *args, **kwargs)
        Stock.objects.update_or_create(product=product, defaults={"on_hand": stock})
        return product


class OrderFactory(DjangoModelFactory):
    """
    An order as the checkout leaves it, but for its signal and its reservations.

    ``lines`` is a number of new products to order one of each, or pairs of product and quantity.
    """

    class Meta:
        model = Order

    customer = factory.SubFactory(CustomerFactory)
    cart_id = factory.LazyFunction(uuid.uuid4)

    @classmethod
    def _create(cls, model_class, *args, lines=1, placed_at=None, **kwargs):
        if isinstance(lines, int):
            lines = [(ProductFactory(), 1) for _ in range(lines)]
        kwargs.setdefault("total", sum((product.unit_price * quantity for product, quantity in lines), Decimal(0)))
        order = super()._create(model_class, *args, **kwargs)
        OrderItem.objects.bulk_create(
            OrderItem(order=order, product=product, quantity=quantity, unit_price=product.unit_price)
            for product, quantity in lines
        )
        if placed_at is not None:  # auto_now_add lets nobody else say so.
            Order.objects.filter(pk=order.pk).update(placed_at=placed_at)
            order.placed_at = placed_at
        return order
