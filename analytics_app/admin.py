"""The sales figures, read-only: only the journal writes them."""

from django.contrib import admin

from analytics_app.models import DailySales, SaleRecord
from web.read_only import ReadOnly


class ReadOnlyAdmin(ReadOnly, admin.ModelAdmin):
    show_full_result_count = False


@admin.register(SaleRecord)
class SaleRecordAdmin(ReadOnlyAdmin):
    list_display = ("order_id", "day", "country", "units", "revenue", "currency", "reversed_at")
    list_filter = ("day", ("reversed_at", admin.EmptyFieldListFilter))
    search_fields = ("=order__id", "=country")
    search_help_text = "An order number or a country."


@admin.register(DailySales)
class DailySalesAdmin(ReadOnlyAdmin):
    list_display = ("day", "product", "orders", "units", "revenue")
    list_filter = ("day",)
    list_select_related = ("product",)
    search_fields = ("=product__sku", "product__title")
    search_help_text = "A SKU, or part of a title."
