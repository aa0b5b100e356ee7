"""Messages, read-only: staff do not write in users' names."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from messaging.models import Block, Message


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ("id", "sender", "receiver", "preview", "timestamp", "read_at")
    list_filter = (
        "timestamp",
        ("read_at", admin.EmptyFieldListFilter),
        ("sender", admin.RelatedOnlyFieldListFilter),
        ("receiver", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("sender", "receiver")
    date_hierarchy = "timestamp"
    search_fields = ("sender__username", "receiver__username", "content")
    search_help_text = "Part of a username or of the text."
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Block)
class BlockAdmin(admin.ModelAdmin):
    list_display = ("user", "blocked", "created_at")
    list_select_related = ("user", "blocked")
    search_fields = ("=user__username", "=blocked__username")
    search_help_text = "A username."
    autocomplete_fields = ("user", "blocked")
