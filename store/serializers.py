"""Serializers of the shop's API, and the order's transaction."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from unicodedata import category
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.validators import RegexValidator
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound, Throttled

from celery_ledger.models import DurableTask
from store import checkout, idempotency, inventory, placing
from store.addresses import ShippingAddressSerializer, ToldAddressSerializer, address_of, represent_address
from store.checkout import Line
from store.customers import AddressTaken, TooManyAddresses, customer_of
from store.idempotency import Answer, NamedRequest
from store.models import (
    MAX_LINE_QUANTITY,
    Cart,
    CartItem,
    Collection,
    Customer,
    Order,
    OrderItem,
    Product,
    ShippingAddress,
)
from store.once import key_of
from store.refusals import OutOfStock, QuantityLimited
from store.signals import address_wished, order_reserved
from store.story import label_of, trouble_of
from web.fields import IdField, StrictSerializer, StrictUUIDField, TextField, WholeNumberField

#: The most lines per order that a list shows, so that a page of a hundred orders stays below a megabyte.
LINES_IN_LIST: Final = 30
#: Empty, or a number that a telephone can dial.
PHONE = r"^(\+?[0-9][0-9 ()./-]{4,30})?\Z"


#: Not allowed in names: line breaks and other control characters, marks that change the direction of writing, and web
#: addresses, because mail programs turn them into links. A dot may end a word or an initial: J.R. King jr.
NOT_IN_NAMES: Final = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069/@\\.\u3002\uff0e\uff0f\uff20\uff61"
INITIAL: Final = r"\.[A-Za-z\u00c0-\u024f\u0370-\u052f]?"
NAME: Final = rf"^([^{NOT_IN_NAMES}]|({INITIAL})+[ ,)-])*({INITIAL})*$"


def of_one_line(text: str) -> None:
    """Refuse line breaks and other control characters: names appear in mail headers."""
    if any(category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise serializers.ValidationError("This must be a single line of text.")


def no_address(text: str) -> None:
    """Refuse text that mail programs would turn into a link: names are sent to other users."""
    if not re.fullmatch(NAME, text):
        raise serializers.ValidationError(
            "This must not contain a web address: put a space after a dot, and do not use / or @."
        )


def of_a_person_alive(day: date) -> None:
    """Refuse birth dates in the future or before 1900."""
    if not date(1900, 1, 1) <= day <= timezone.now().date():
        raise serializers.ValidationError("Enter a valid date of birth.")


@extend_schema_field({"type": "string", "maxLength": 150, "pattern": NAME})
class NameField(TextField):
    """A name of a person: one line without a web address, or nothing."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=150, allow_blank=True, validators=[of_one_line, no_address], **kwargs)


@extend_schema_field({"type": "string", "pattern": r"^(\+?[0-9][0-9 ()./-]{4,30})?$"})
class PhoneField(TextField):
    """Empty, or the digits as they are dialled."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_blank=True, validators=[RegexValidator(PHONE)], **kwargs)


class CustomerSerializer(StrictSerializer):
    """The user's own profile."""

    id = serializers.IntegerField(read_only=True)
    username = serializers.CharField(source="user.username", read_only=True)
    email = serializers.EmailField(
        source="user.email",
        max_length=254,
        help_text="A verified address stays until a change is confirmed at both addresses.",
    )
    first_name = NameField(source="user.first_name")
    last_name = NameField(source="user.last_name")
    phone = PhoneField(help_text="A phone number, or empty.")
    birth_date = serializers.DateField(allow_null=True, validators=[of_a_person_alive])

    def validate_email(self, email: str) -> str:
        assert self.instance is not None
        others = get_user_model().objects.exclude(pk=self.instance.user_id)
        if others.filter(email__iexact=email).exists():
            raise serializers.ValidationError("This address is already in use.")
        return email

    def update(self, instance: Customer, validated_data: dict[str, Any]) -> Customer:
        """
        Save the changes. A verified mail address stays in use until the new one is verified.

        Raises:
            ValidationError: the address was taken a moment ago.
            Throttled: too many confirmation mails were requested.
        """
        of_user = validated_data.pop("user", {})
        email = of_user.pop("email", None)
        try:
            with transaction.atomic():
                if email is not None:
                    address_wished.send(sender=Customer, user=instance.user, email=email)
                    instance.user.refresh_from_db(fields=["email"])
                for thing, fields in ((instance.user, of_user), (instance, validated_data)):
                    for name, value in fields.items():
                        setattr(thing, name, value)
                    if fields:
                        thing.save(update_fields=list(fields))
        except (AddressTaken, IntegrityError) as error:
            raise serializers.ValidationError({"email": ["This address is already in use."]}) from error
        except TooManyAddresses as error:
            raise Throttled(error.wait, "Too many verification emails were requested. Try again later.") from None
        return instance


class CollectionSerializer(serializers.ModelSerializer[Collection]):
    products_count = serializers.IntegerField()

    class Meta:
        model = Collection
        fields = ["id", "title", "products_count"]
        read_only_fields = fields


class ProductSerializer(serializers.ModelSerializer[Product]):
    collection = serializers.IntegerField(
        source="collection_id", allow_null=True, help_text="The id of its collection."
    )
    available = serializers.IntegerField(help_text="How many can be ordered now.")

    class Meta:
        model = Product
        fields = ["id", "sku", "title", "slug", "unit_price", "currency", "collection", "available"]
        read_only_fields = fields


class CartItemSerializer(serializers.ModelSerializer[CartItem]):
    product = serializers.IntegerField(source="product_id")
    sku = serializers.CharField(source="product.sku")
    title = serializers.CharField(source="product.title")
    unit_price = serializers.DecimalField(source="product.unit_price", max_digits=12, decimal_places=2)
    available = serializers.IntegerField(help_text="How many of the product can be ordered now.")
    total_price = serializers.DecimalField(max_digits=18, decimal_places=2)

    class Meta:
        model = CartItem
        fields = ["id", "product", "sku", "title", "quantity", "unit_price", "total_price", "available"]
        read_only_fields = fields


class CartSerializer(serializers.ModelSerializer[Cart]):
    items = CartItemSerializer(many=True)
    total_price = serializers.DecimalField(max_digits=20, decimal_places=2)
    currency = serializers.CharField()

    class Meta:
        model = Cart
        fields = ["id", "items", "total_price", "currency"]
        read_only_fields = fields


class QuantityField(WholeNumberField):
    """The quantity of one product in one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=MAX_LINE_QUANTITY, **kwargs)


class AddItemSerializer(StrictSerializer):
    """A product and a quantity."""

    product_id = IdField()
    quantity = QuantityField()


class ChangeItemSerializer(StrictSerializer):
    """The new quantity of a line."""

    quantity = QuantityField()

    #: Stated for the OpenAPI document, which makes every field of a PATCH optional.
    needed_in_patch = ("quantity",)


class OrderTaskSerializer(serializers.ModelSerializer[DurableTask]):
    """A task of an order. Staff (``staff`` in the context) see its error; others see what the error means for them."""

    task = serializers.CharField(source="name")
    label = serializers.SerializerMethodField()  # type: ignore[assignment]
    enqueued_at = serializers.DateTimeField(source="created_at")
    last_error = serializers.SerializerMethodField()

    class Meta:
        model = DurableTask
        fields = [
            "id",
            "task",
            "label",
            "queue",
            "status",
            "attempts",
            "enqueued_at",
            "published_at",
            "completed_at",
            "last_error",
            "canvas",
        ]
        read_only_fields = fields

    def get_label(self, task: DurableTask) -> str:
        return label_of(task.name)

    def get_last_error(self, task: DurableTask) -> str:
        return task.last_error if self.context.get("staff") else trouble_of(task)


class OrderTasksSerializer(serializers.Serializer[Any]):
    results = OrderTaskSerializer(many=True)


class OrderItemSerializer(serializers.ModelSerializer[OrderItem]):
    product = serializers.IntegerField(source="product_id")
    sku = serializers.CharField(source="product.sku")
    title = serializers.CharField(source="product.title")

    class Meta:
        model = OrderItem
        fields = ["product", "sku", "title", "quantity", "unit_price"]
        read_only_fields = fields


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order."""

    # The fields describe it; represent() writes it, in a tenth of the time.

    customer = serializers.IntegerField(source="customer_id")
    items = OrderItemSerializer(many=True)
    shipping_address = ToldAddressSerializer(required=False, help_text="The shipping address, if any.")
    shipped_at = serializers.DateTimeField(required=False, help_text="Present once the order has been shipped.")
    delivered_at = serializers.DateTimeField(required=False, help_text="Present once the order has been delivered.")
    settled_at = serializers.DateTimeField(
        required=False, help_text="Present once every task that follows from placing the order has succeeded."
    )
    settled_in = serializers.FloatField(
        required=False, help_text="Seconds from placing the order to `settled_at`. Present with it."
    )

    class Meta:
        model = Order
        fields = [
            "id",
            "status",
            "customer",
            "items",
            "total",
            "currency",
            "placed_at",
            "duplicate",
            "shipping_address",
            "shipped_at",
            "delivered_at",
            "settled_at",
            "settled_in",
        ]
        read_only_fields = fields

    def to_representation(self, instance: Order) -> dict[str, Any]:
        return represent(instance, lines_of(instance, instance.items.all()), address_of(instance))


class OrderInListSerializer(OrderSerializer):
    """An order in a list: its first lines, and how many there are in all."""

    items = OrderItemSerializer(many=True, help_text=f"The first {LINES_IN_LIST} lines; the order itself has all.")
    items_count = serializers.IntegerField(help_text="Number of lines.")
    units = serializers.IntegerField(help_text="Number of units in all lines.")

    class Meta(OrderSerializer.Meta):
        fields = [*OrderSerializer.Meta.fields, "items_count", "units"]
        read_only_fields = fields

    def to_representation(self, instance: Any) -> dict[str, Any]:
        sums = {"items_count": instance.items_count, "units": instance.units}
        return represent(instance, lines_of(instance, instance.first_items), address_of(instance)) | sums


def read_first_lines(orders: Sequence[Any]) -> None:
    """
    Set ``first_items``, the first lines, on each order; the orders come ``with_sums``.

    The lines of an order are written in one statement, so their ids are consecutive: only those shown are read, however
    many an order has.
    """
    large = [order.pk for order in orders if order.items_count > LINES_IN_LIST]
    wanted = Q(order__in=[order.pk for order in orders if order.items_count <= LINES_IN_LIST])
    if large:
        for order_id, first, last in Order.objects.filter(pk__in=large).ends_of_lines(LINES_IN_LIST):
            wanted |= Q(pk__range=(first, last), order=order_id)
    found = defaultdict(list)
    for item in OrderItem.objects.filter(wanted).select_related("product").order_by("pk"):
        found[item.order_id].append(item)
    for order in orders:
        order.first_items = found[order.pk]


def lines_of(order: Order, items: Iterable[OrderItem]) -> Iterator[Line]:
    """Return the lines of an order."""
    for item in items:
        yield Line(
            item.product_id, item.product.sku, item.product.title, item.quantity, item.unit_price, order.currency
        )


def represent(order: Order, lines: Iterable[Line], address: ShippingAddress | None) -> dict[str, Any]:
    """Return an order for clients, with its address and dates if there are any."""
    known = {
        "shipping_address": address and represent_address(address),
        "shipped_at": order.shipped_at and _time(order.shipped_at),
        "delivered_at": order.delivered_at and _time(order.delivered_at),
        "settled_at": order.settled_at and _time(order.settled_at),
        "settled_in": order.settled_in and order.settled_in.total_seconds(),
    }
    return {
        "id": order.pk,
        "status": str(order.status),
        "customer": order.customer_id,
        "items": [
            {
                "product": line.product_id,
                "sku": line.sku,
                "title": line.title,
                "quantity": line.quantity,
                "unit_price": f"{line.unit_price:.2f}",
            }
            for line in lines
        ],
        "total": f"{order.total:.2f}",
        "currency": order.currency,
        "placed_at": _time(order.placed_at),
        "duplicate": order.duplicate,
        **{name: value for name, value in known.items() if value},
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class CreateOrderSerializer(StrictSerializer):
    """The cart to order, and the shipping address."""

    # ``context`` gives the ``request``, which may carry an ``Idempotency-Key``.
    cart_id = StrictUUIDField(help_text="The cart to order. It is deleted by the checkout.")
    shipping_address = ShippingAddressSerializer(
        required=False, help_text="The shipping address. It stays with the order if the customer's address changes."
    )

    def save(self, **kwargs: Any) -> Answer:
        """
        Place the order in one transaction with everything that must follow from it.

        Raises:
            NotFound: this customer has no such cart.
            ValidationError: the cart is empty, or cannot be one order.
            OutOfStock: names each product that falls short.
            QuantityLimited: names each product whose quantity exceeds the customer's limit.
            ParseError: the idempotency key is malformed.
            KeyInUse, KeyReused: the idempotency key is in use, or was used for another request.
        """
        named = self._named_request()
        customer = customer_of(self.context["request"].user)
        with checkout.one_transaction():
            answer = idempotency.recall(named) if named else None
            if answer is None:
                answer = self._place_order(self.validated_data["cart_id"], customer)
                if named:
                    idempotency.remember(named, answer)
        return answer

    def _place_order(self, cart_id: UUID, customer: Customer) -> Answer:
        said = self.validated_data.get("shipping_address")
        try:
            lines = checkout.take_cart(cart_id, customer)
            status_of_new = Order.Status.UNPAID if settings.PAYMENT_URL else Order.Status.PLACED
            order = checkout.write_order(lines, cart_id=cart_id, customer=customer, status=status_of_new, address=said)
        except checkout.CartNotFound:
            return self._answer_again(cart_id, customer)
        except checkout.CartNotOrderable as error:
            raise serializers.ValidationError({"cart_id": [str(error)]}) from error
        except checkout.TooMany as error:
            raise QuantityLimited(error.products) from error
        except inventory.NotEnoughStock as error:
            raise OutOfStock(error) from error
        if order.status == Order.Status.PLACED:
            placing.announce(order)
        else:
            order_reserved.send_robust(sender=Order, order=order)
            if transaction.get_rollback():
                raise transaction.TransactionManagementError("A receiver of the order's signal broke the transaction.")
        return Answer(status.HTTP_201_CREATED, represent(order, lines, order.shipping_address if said else None))

    def _answer_again(self, cart_id: UUID, customer: Customer) -> Answer:
        """Return the order that this customer already made of the cart."""
        order = Order.objects.with_lines().filter(cart_id=cart_id, customer=customer).first()
        if order is None:
            raise NotFound("Cart not found.")
        return Answer(status.HTTP_200_OK, OrderSerializer(order).data, replayed=True)

    def _named_request(self) -> NamedRequest | None:
        request = self.context["request"]
        key = key_of(request)
        if key is None:
            return None
        return NamedRequest(request.user.pk, key, idempotency.fingerprint_of_body(self.initial_data))
