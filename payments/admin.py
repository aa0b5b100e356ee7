"""Payments, read-only."""

from django.contrib import admin

from payments.models import DeclinedCharge, Payment, PaymentCallback
from web.read_only import ReadOnly


class PaymentCallbackInline(ReadOnly, admin.TabularInline):
    model = PaymentCallback
    fields = ("taken_at", "message_id", "result")
    readonly_fields = fields


class DeclinedChargeInline(ReadOnly, admin.TabularInline):
    model = DeclinedCharge
    fields = ("declined_at", "reference")
    readonly_fields = fields


@admin.register(Payment)
class PaymentAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("id", "order_id", "status", "amount", "currency", "created_at", "expires_at", "paid_at", "error")
    list_filter = ("status", "created_at")
    search_fields = ("=order__id", "=reference")
    search_help_text = "An order number or a payment reference."
    inlines = (DeclinedChargeInline, PaymentCallbackInline)
