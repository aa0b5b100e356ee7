"""Sent verification codes, without the codes themselves."""

from django.contrib import admin

from phones.models import PhoneVerification
from web.read_only import ReadOnly


@admin.register(PhoneVerification)
class PhoneVerificationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("id", "customer", "created_at", "sent_at", "tries", "verified_at")
    list_select_related = ("customer",)
    search_fields = ("=customer__user__username",)
    search_help_text = "A username."
    exclude = ("nonce",)
    show_full_result_count = False
