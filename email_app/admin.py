"""Mails, read-only: only the delivery sets their status."""

from django.contrib import admin

from email_app.models import EmailDelivery
from store.admin import OrderAdmin
from web.read_only import ReadOnly


class OrderMailInline(ReadOnly, admin.TabularInline):
    """The mails about an order, on the order's page, with links."""

    model = EmailDelivery
    fields = ("kind", "recipient", "status", "created_at", "sent_at", "error")
    readonly_fields = ("created_at",)
    verbose_name_plural = "mails"
    show_change_link = True


OrderAdmin.inlines.append(OrderMailInline)


@admin.register(EmailDelivery)
class EmailDeliveryAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("id", "kind", "order_id", "recipient", "status", "created_at", "sent_at", "error")
    list_filter = ("kind", "status")
    search_fields = ("=order__id", "^recipient")
    search_help_text = "An order number, or the beginning of an address."
    show_full_result_count = False
