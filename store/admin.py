"""
The shop in the admin: catalogue and stock are editable, orders and history are read-only.

Orders, movements and keys have no add, change or delete. Staff change orders by actions, which use the same code as the
API, with the same consequences. An app that has something to show on an order's page adds an inline to
``OrderAdmin.inlines``.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from celery_ledger.models import DurableTask
from store import prices
from store.cancellation import cancel_order
from store.contention import persist
from store.models import (
    Cart,
    CartItem,
    Collection,
    Customer,
    IdempotencyKey,
    Order,
    OrderItem,
    PriceChange,
    Product,
    ShippingAddress,
    Stock,
    StockMovement,
)
from store.refusals import NotCancellable
from store.shipping import deliver_orders, ship_orders
from web.read_only import ReadOnly

#: How many orders a confirmation page lists by name.
MOST_SHOWN = 20
#: How many orders one transaction marks as shipped.
PORTION = 500


@admin.register(Customer)
class CustomerAdmin(admin.ModelAdmin):
    list_display = ["id", "username", "email", "country", "phone"]
    list_filter = ["country"]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email", "phone"]
    autocomplete_fields = ["user"]

    @admin.display(ordering="user__username")
    def username(self, customer: Customer) -> str:
        return str(customer.user.get_username())

    @admin.display(ordering="user__email")
    def email(self, customer: Customer) -> str:
        return str(customer.user.email)


@admin.register(Collection)
class CollectionAdmin(admin.ModelAdmin):
    list_display = ["title", "products_count"]
    search_fields = ["title"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Collection]:
        collections: QuerySet[Collection] = super().get_queryset(request)
        return collections.annotate(products_count=Count("products"))

    @admin.display(ordering="products_count", description="products")
    def products_count(self, collection: Any) -> int:
        return int(collection.products_count)


class StockInline(admin.StackedInline):
    """``reserved`` belongs to the orders and is not edited."""

    model = Stock
    readonly_fields = ["reserved"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stock]:
        """Lock the row from reading to saving: a save also writes ``reserved``, as read."""
        rows: QuerySet[Stock] = super().get_queryset(request)
        return rows.select_for_update() if request.method == "POST" else rows


class PriceActionForm(ActionForm):
    """The form of the action that changes prices."""

    percent = forms.DecimalField(
        required=False, min_value=Decimal(-99), max_value=Decimal(1000), decimal_places=2, label="Prices by % "
    )


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = [
        "sku",
        "title",
        "unit_price",
        "currency",
        "collection",
        "on_hand",
        "reserved",
        "low_stock_threshold",
    ]
    list_filter = ["collection", "currency"]
    list_select_related = ["collection", "stock"]
    search_fields = ["sku", "title"]
    autocomplete_fields = ["collection"]
    prepopulated_fields = {"slug": ["title"]}
    inlines = [StockInline]
    actions = ["change_prices"]
    action_form = PriceActionForm

    @admin.action(description="Change prices by a percentage", permissions=["change"])
    def change_prices(self, request: HttpRequest, queryset: QuerySet[Product]) -> None:
        """Change the prices of the selected products; each change is recorded like an edit."""
        # Django has checked the form by now.
        percent = PriceActionForm.base_fields["percent"].clean(request.POST.get("percent"))
        if percent is None:
            self.message_user(request, "Enter a percentage.", messages.ERROR)
            return
        changed = persist(partial(prices.change_prices, queryset, percent=percent))
        self.message_user(request, f"{changed} prices changed.", messages.SUCCESS)

    @admin.display(ordering="stock__on_hand")
    def on_hand(self, product: Product) -> int | None:
        return product.stock.on_hand if hasattr(product, "stock") else None

    @admin.display(ordering="stock__reserved")
    def reserved(self, product: Product) -> int | None:
        return product.stock.reserved if hasattr(product, "stock") else None


@admin.register(PriceChange)
class PriceChangeAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["id", "product", "old", "new", "who", "at"]
    list_filter = ["at"]
    list_select_related = ["product", "who"]
    search_fields = ["product__sku"]
    search_help_text = "Part of a SKU."


class CartItemInline(ReadOnly, admin.TabularInline):
    model = CartItem
    fields = ["product", "quantity"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[CartItem]:
        return super().get_queryset(request).select_related("product")


@admin.register(Cart)
class CartAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["id", "customer", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["customer"]
    search_fields = ["id__exact", "customer__user__username"]
    search_help_text = "A full cart id, or part of the customer's name."
    inlines = [CartItemInline]


class OrderItemInline(ReadOnly, admin.TabularInline):
    model = OrderItem
    fields = ["product", "quantity", "unit_price"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrderItem]:
        return super().get_queryset(request).select_related("product")


class StockMovementInline(ReadOnly, admin.TabularInline):
    model = StockMovement
    fields = ["product", "quantity", "reason", "created_at"]
    readonly_fields = ["created_at"]
    verbose_name_plural = "stock movements"

    def get_queryset(self, request: HttpRequest) -> QuerySet[StockMovement]:
        return super().get_queryset(request).select_related("product")


class ShippingAddressInline(ReadOnly, admin.StackedInline):
    model = ShippingAddress
    show_change_link = True


@admin.register(ShippingAddress)
class ShippingAddressAdmin(admin.ModelAdmin):
    """Staff can correct an address until the goods are sent. The audit trail records that, but not the address."""

    list_display = ["order", "name", "city", "country"]
    list_filter = ["country"]
    list_select_related = ["order"]
    search_fields = ["=order__id", "name", "postal_code"]
    search_help_text = "An order number, or part of a name or postal code."
    readonly_fields = ["order"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ShippingAddress | None = None) -> bool:
        is_open = obj is None or obj.order.status in {Order.Status.UNPAID, Order.Status.PLACED}
        return is_open and bool(request.user.has_perm("store.change_order"))

    def has_delete_permission(self, request: HttpRequest, obj: ShippingAddress | None = None) -> bool:
        return False


@admin.register(Order)
class OrderAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["id", "username", "status", "total", "currency", "placed_at", "perhaps_double"]
    list_filter = ["status", "duplicate", "placed_at"]
    list_select_related = ["customer__user"]
    date_hierarchy = "placed_at"
    search_fields = ["=id", "customer__user__username", "customer__user__email"]
    search_help_text = "An order number, or part of the customer's name or address."
    fields = [
        "customer",
        "status",
        "total",
        "currency",
        "placed_at",
        "shipped_at",
        "delivered_at",
        "settled_at",
        "settled_in",
        "duplicate",
        "cart_id",
        "tasks",
    ]
    inlines = [OrderItemInline, ShippingAddressInline, StockMovementInline]
    actions = ["ship", "deliver", "cancel"]

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Whether this person may ship and cancel: the model's change permission."""
        return bool(request.user.has_perm("store.change_order"))

    @admin.action(description="Mark as shipped", permissions=["decide"])
    def ship(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        """Mark the selected open orders as shipped: they can no longer be cancelled."""
        self._move(request, queryset, ship_orders, "marked as shipped")

    @admin.action(description="Mark as delivered", permissions=["decide"])
    def deliver(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        """Mark the selected shipped orders as delivered."""
        self._move(request, queryset, deliver_orders, "marked as delivered")

    def _move(
        self, request: HttpRequest, queryset: QuerySet[Order], move: Callable[[list[int]], list[Order]], what: str
    ) -> None:
        chosen, moved = list(queryset.values_list("pk", flat=True)), 0
        for start in range(0, len(chosen), PORTION):
            for order in persist(partial(move, chosen[start : start + PORTION])):
                self.log_change(request, order, [{"changed": {"fields": ["Status"]}}])
                moved += 1
        self._tell(request, moved, len(chosen), what)

    @admin.action(description="Cancel orders", permissions=["decide"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Order]) -> HttpResponse | None:
        """Cancel the selected open orders after confirmation, each in a separate transaction, as the API does."""
        if request.POST.get("confirmed") != "yes":
            return self._ask(request, queryset)
        cancelled = 0
        for order_id in queryset.values_list("pk", flat=True):
            try:
                persist(partial(cancel_order, order_id, among=Order.objects.all()))
            except NotCancellable:
                continue
            cancelled += 1
        self._tell(request, cancelled, queryset.count(), "cancelled")
        return None

    def _ask(self, request: HttpRequest, queryset: QuerySet[Order]) -> HttpResponse:
        """Show the orders to be cancelled, with a button to confirm."""
        count = queryset.count()
        context = {
            **self.admin_site.each_context(request),
            "title": "Are you sure?",
            "count": count,
            "orders": queryset[:MOST_SHOWN],
            "more": count - MOST_SHOWN,
            "chosen": request.POST.getlist("_selected_action"),
            "select_across": request.POST.get("select_across", "0"),
            "back": request.get_full_path(),
        }
        return TemplateResponse(request, "store/cancel_orders.html", context)

    def _tell(self, request: HttpRequest, done: int, chosen: int, what: str) -> None:
        """Report how many orders an action changed, and how many it did not."""
        level = messages.SUCCESS if done == chosen else messages.WARNING
        self.message_user(request, f"{done} orders {what}, {chosen - done} left unchanged.", level)

    @admin.display(ordering="duplicate", description="duplicate?")
    def perhaps_double(self, order: Order) -> str:
        """Show possible duplicates in words: a tick would look like good news."""
        return "⚠ possible duplicate" if order.duplicate else "-"

    @admin.display(ordering="customer__user__username", description="customer")
    def username(self, order: Order) -> str:
        return str(order.customer.user.get_username())

    def get_readonly_fields(self, request: HttpRequest, obj: Order | None = None) -> list[str]:
        return ["tasks"]

    @admin.display(description="durable tasks")
    def tasks(self, order: Order) -> str:
        """Every task of the order, one line each, linked to its page if it has one."""
        rows = DurableTask.objects.filter(subject=order.subject).order_by("id")
        lines = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (_linked(task, task.name), task.status, task.attempts, task.completed_at or "", task.last_error)
                for task in rows
            ),
        )
        if not lines:
            return "no longer in the ledger"
        head = "<tr><th>task</th><th>status</th><th>attempts</th><th>completed</th><th>last error</th></tr>"
        table = format_html("<table>" + head + "{}</table>", lines)
        address = f"{reverse('admin:celery_ledger_durabletask_changelist')}?{urlencode({'subject': order.subject})}"
        return format_html('{}<p><a href="{}">View in the ledger</a></p>', table, address)


@admin.register(StockMovement)
class StockMovementAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["id", "order", "product", "quantity", "reason", "created_at"]
    list_filter = ["reason", "created_at"]
    list_select_related = ["order", "product"]
    search_fields = ["=order__id", "product__sku"]
    search_help_text = "An order number, or part of a SKU."


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["id", "user", "key", "status_code", "created_at"]
    list_filter = ["status_code", "created_at"]
    list_select_related = ["user"]
    search_fields = ["key", "user__username"]


def _linked(row: DurableTask, text: str) -> str:
    return format_html('<a href="{}">{}</a>', reverse("admin:celery_ledger_durabletask_change", args=[row.pk]), text)
