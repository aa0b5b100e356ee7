"""The shop's tables: customers, catalogue, stock, carts and orders."""

import uuid
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

#: The largest quantity of one line: a wholesale order.
MAX_LINE_QUANTITY = 10_000
#: The most lines that one cart may have.
MAX_CART_LINES = 1_000


def default_currency() -> str:
    """Return the currency of the shop, an ISO 4217 code."""
    return str(settings.SHOP_CURRENCY)


class Customer(models.Model):
    """The shop's profile of a user; made in the transaction that registers the user."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="customer")
    phone = models.CharField(max_length=32, blank=True)
    birth_date = models.DateField(null=True, blank=True)
    country = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"customer {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, in one transaction with what receivers write: a user, if the profile has none."""
        with transaction.atomic(savepoint=False):
            super().save(*args, **kwargs)


class Collection(models.Model):
    """A category of the catalogue."""

    title = models.CharField(max_length=255, unique=True)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title


class ProductQuerySet(models.QuerySet["Product"]):
    """Products."""

    def with_available(self) -> "ProductQuerySet":
        """Annotate each product with ``available``, the quantity that can still be reserved; 0 without a stock row."""
        return self.annotate(available=Coalesce(F("stock__on_hand") - F("stock__reserved"), 0))


class Product(models.Model):
    """A product for sale at a price."""

    sku = models.CharField(max_length=64, unique=True)
    title = models.CharField(max_length=255)
    slug = models.SlugField(max_length=255)
    unit_price = models.DecimalField(max_digits=12, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    currency = models.CharField(max_length=3, default=default_currency)
    collection = models.ForeignKey(
        Collection, on_delete=models.SET_NULL, null=True, blank=True, related_name="products"
    )
    low_stock_threshold = models.PositiveIntegerField(
        default=0, help_text="Managers are notified when fewer than this many are available. 0: never."
    )

    objects = ProductQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(unit_price__gt=0), name="product_price_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.title}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, in one transaction with what receivers write about it."""
        with transaction.atomic(savepoint=False):
            super().save(*args, **kwargs)


class PriceChange(models.Model):
    """A change of a product's price from ``old`` to ``new``, written with the change itself."""

    # The index begins with this column.
    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="price_changes", db_index=False)
    old = models.DecimalField(max_digits=12, decimal_places=2)
    new = models.DecimalField(max_digits=12, decimal_places=2)
    who = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty if no user is known, such as in a command.",
    )
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["product", "-id"], name="price_changes_of_a_product")]

    def __str__(self) -> str:
        return f"product {self.product_id}: {self.old} -> {self.new}"


class Stock(models.Model):
    """
    The quantity of a product on hand, and the part of it that is reserved for orders.

    ``on_hand >= reserved >= 0`` always holds; the database checks it.
    """

    product = models.OneToOneField(Product, on_delete=models.CASCADE, primary_key=True, related_name="stock")
    on_hand = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "stock"
        constraints = [
            models.CheckConstraint(condition=Q(reserved__gte=0), name="stock_reserved_is_not_negative"),
            models.CheckConstraint(condition=Q(on_hand__gte=F("reserved")), name="stock_covers_reservations"),
        ]

    def __str__(self) -> str:
        return f"stock of product {self.product_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, in one transaction with what receivers write about it."""
        with transaction.atomic(savepoint=False):
            super().save(*args, **kwargs)

    @property
    def available(self) -> int:
        """The quantity that can still be reserved."""
        return self.on_hand - self.reserved


class CartQuerySet(models.QuerySet["Cart"]):
    """Carts."""

    def reachable_by(self, customer: Customer | None) -> "CartQuerySet":
        """Return the carts accessible to a client who knows their id: anonymous ones, and the customer's own."""
        return self.filter(Q(customer=None) | Q(customer=customer) if customer else Q(customer=None))

    def with_lines(self) -> "CartQuerySet":
        """Prefetch the lines, their products and stock, in one query for all carts."""
        return self.prefetch_related(models.Prefetch("items", CartItem.objects.select_related("product__stock")))


class Cart(models.Model):
    """A customer's selection. The checkout deletes it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, null=True, blank=True, related_name="carts")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CartQuerySet.as_manager()

    def __str__(self) -> str:
        return f"cart {self.pk}"

    @property
    def total_price(self) -> Decimal:
        """The total of its lines at current prices."""
        return sum((item.total_price for item in self.items.all()), start=Decimal(0))

    @property
    def currency(self) -> str:
        """The currency of its lines; the shop's if it has none."""
        return next((item.product.currency for item in self.items.all()), default_currency())


class CartItem(models.Model):
    """One product in a cart."""

    # The unique constraint's index begins with this column.
    cart = models.ForeignKey(Cart, on_delete=models.CASCADE, related_name="items", db_index=False)
    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="+")
    quantity = models.PositiveIntegerField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["cart", "product"], name="one_line_a_product_in_a_cart"),
            models.CheckConstraint(
                condition=Q(quantity__gte=1, quantity__lte=MAX_LINE_QUANTITY), name="cart_quantity_in_range"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id} in cart {self.cart_id}"

    @property
    def total_price(self) -> Decimal:
        """The price of the line at the current price."""
        return self.quantity * self.product.unit_price

    @property
    def available(self) -> int:
        """The quantity of its product that can be ordered now."""
        stock: Stock | None = getattr(self.product, "stock", None)
        return stock.available if stock else 0


class OrderQuerySet(models.QuerySet["Order"]):
    """Orders."""

    def placed(self) -> "OrderQuerySet":
        """Return the orders that were announced as placed, whatever their state is now."""
        return self.exclude(status__in=[Order.Status.UNPAID, Order.Status.EXPIRED])

    def visible_to(self, user: Any) -> "OrderQuerySet":
        """Return the orders that a signed-in user may see: all for staff, otherwise the user's own."""
        return self if user.is_staff else self.filter(customer__user=user)

    def cancellable_by(self, user: Any) -> "OrderQuerySet":
        """Return the orders that a signed-in user may cancel: their own, and all for staff who may change orders."""
        is_trusted = user.is_staff and user.has_perm("store.change_order")
        return self if is_trusted else self.filter(customer__user=user)

    def with_lines(self) -> "OrderQuerySet":
        """Prefetch the lines, their products and addresses, in one query for all orders."""
        lines = models.Prefetch("items", OrderItem.objects.select_related("product"))
        return self.select_related("shipping_address").prefetch_related(lines)

    def with_sums(self) -> "OrderQuerySet":
        """Annotate each order with its number of lines and units, and select its address."""
        each = OrderItem.objects.filter(order=OuterRef("pk")).order_by().values("order")
        return self.select_related("shipping_address").annotate(
            items_count=Coalesce(Subquery(each.annotate(n=models.Count("pk")).values("n")), 0),
            units=Coalesce(Subquery(each.annotate(n=models.Sum("quantity")).values("n")), 0),
        )

    def ends_of_lines(self, count: int) -> "models.QuerySet[Order, tuple[int, int, int]]":
        """Return each order's id with the ids of its first and its ``count``-th line, or its last one."""
        lines = OrderItem.objects.filter(order=OuterRef("pk")).order_by()
        first = lines.values("order").annotate(n=models.Min("pk")).values("n")
        # Ordered by an expression; otherwise PostgreSQL may read all orders' lines by id instead of sorting this
        # order's.
        last = lines.order_by(F("pk") + 0).values("pk")[count - 1 : count]
        return self.order_by().values_list("pk", Subquery(first), Subquery(last))


class Order(models.Model):
    """
    A customer's purchase, written in one transaction with everything that must follow from it.

    ``cart_id`` is the cart that it was made from, which no longer exists. There is at most one order per cart, ever.
    """

    class Status(models.TextChoices):
        #: Its stock is reserved until it is paid or expires. Only in a shop that takes payments.
        UNPAID = "unpaid"
        PLACED = "placed"
        SHIPPED = "shipped"
        DELIVERED = "delivered"
        CANCELLED = "cancelled"
        #: It was never placed: it was not paid in time, or was cancelled before.
        EXPIRED = "expired"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="orders", db_index=False)
    cart_id = models.UUIDField(unique=True, editable=False)
    fingerprint = models.CharField(
        max_length=64,
        editable=False,
        help_text="SHA-256 of its lines: products and quantities.",
    )
    status = models.CharField(max_length=9, choices=Status, default=Status.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True, db_index=True)
    shipped_at = models.DateTimeField(null=True, blank=True, editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True, editable=False)
    settled_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When every task that follows from placing it was done."
    )
    settled_in = models.DurationField(null=True, blank=True, editable=False, help_text="How long that took.")
    duplicate = models.BooleanField(default=False)
    total = models.DecimalField(max_digits=18, decimal_places=2)
    currency = models.CharField(max_length=3, default=default_currency)

    objects = OrderQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            # Finds a customer's orders, and among them the latest with the same lines.
            models.Index(fields=["customer", "fingerprint", "placed_at"], name="order_of_the_same_lines"),
        ]

    def __str__(self) -> str:
        return f"order {self.pk}"

    @property
    def subject(self) -> str:
        """The subject of this order's tasks in the ledger."""
        return f"{self._meta.label_lower}:{self.pk}"


class ShippingAddress(models.Model):
    """The delivery address of an order, given at checkout. An order may have none."""

    order = models.OneToOneField(Order, on_delete=models.CASCADE, primary_key=True, related_name="shipping_address")
    name = models.CharField(max_length=150)
    line1 = models.CharField(max_length=200)
    line2 = models.CharField(max_length=200, blank=True)
    city = models.CharField(max_length=100)
    region = models.CharField(max_length=100, blank=True)
    postal_code = models.CharField(max_length=20, blank=True)
    country = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2.")

    class Meta:
        verbose_name_plural = "shipping addresses"

    def __str__(self) -> str:
        return f"address of order {self.order_id}"


class OrderItem(models.Model):
    """One line of an order, at the price at checkout."""

    # The unique constraint's index begins with this column.
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="items", db_index=False)
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField()
    unit_price = models.DecimalField(max_digits=12, decimal_places=2)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["order", "product"], name="one_line_a_product_in_an_order"),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="order_quantity_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of product {self.product_id} in order {self.order_id}"


class StockMovement(models.Model):
    """Goods that left (negative quantity) or came back (positive), once per order, product and reason."""

    class Reason(models.TextChoices):
        SALE = "sale"
        CANCEL = "cancel"

    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="movements")
    # The unique constraint's index begins with this column.
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="movements", db_index=False)
    quantity = models.BigIntegerField()
    reason = models.CharField(max_length=6, choices=Reason)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["order", "product", "reason"], name="one_movement_a_line_and_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.reason} of {self.quantity} of product {self.product_id} for order {self.order_id}"


class IdempotencyKey(models.Model):
    """
    A request with an idempotency key, and its response.

    Written as the last statement of the request's transaction: it exists if and only if what the request created does.
    The unique constraints make two answers for one key impossible.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    visitor = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="SHA-256 of the address of a client who is not signed in.",
    )
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="Distinguishes the request from others.")
    status_code = models.PositiveSmallIntegerField()
    body = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="one_answer_a_key_and_user"),
            models.UniqueConstraint(
                fields=["visitor", "key"], condition=Q(user__isnull=True), name="one_answer_a_key_and_visitor"
            ),
        ]

    def __str__(self) -> str:
        return f"idempotency key {self.pk}"
