"""Notifications and preferences in the admin."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from notifications.models import (
    Announcement,
    Notification,
    NotificationDelivery,
    NotificationPreference,
    PushSubscription,
    QuietHours,
)
from web.read_only import ReadOnly


@admin.register(Notification)
class NotificationAdmin(admin.ModelAdmin):
    list_display = ("id", "user", "sender", "kind", "message", "created", "read")
    list_filter = ("read", "kind", "created")
    list_select_related = ("user", "sender")
    search_fields = ("=user__username",)
    search_help_text = "A username."
    show_full_result_count = False
    actions = ("mark_read", "mark_unread")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Texts cannot be edited; the actions below change whether they were read."""
        return obj is None and super().has_change_permission(request, obj)

    @admin.action(description="Mark as read", permissions=["change"])
    def mark_read(self, request: HttpRequest, notifications: QuerySet[Notification]) -> None:
        self._mark(request, notifications, read=True)

    @admin.action(description="Mark as unread", permissions=["change"])
    def mark_unread(self, request: HttpRequest, notifications: QuerySet[Notification]) -> None:
        self._mark(request, notifications, read=False)

    def _mark(self, request: HttpRequest, notifications: QuerySet[Notification], *, read: bool) -> None:
        count = notifications.exclude(read=read).update(read=read)
        self.message_user(request, f"{count} marked as {'read' if read else 'unread'}.")


@admin.register(NotificationPreference)
class NotificationPreferenceAdmin(admin.ModelAdmin):
    list_display = ("user", "kind", "channel", "enabled")
    list_filter = ("kind", "channel", "enabled")
    list_select_related = ("user",)
    search_fields = ("=user__username",)
    autocomplete_fields = ("user",)


@admin.register(QuietHours)
class QuietHoursAdmin(admin.ModelAdmin):
    list_display = ("user", "start", "end", "time_zone")
    list_select_related = ("user",)
    search_fields = ("=user__username",)
    autocomplete_fields = ("user",)


@admin.register(NotificationDelivery)
class NotificationDeliveryAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("id", "notification_id", "channel", "status", "created_at", "settled_at", "error")
    list_filter = ("channel", "status")
    search_fields = ("=notification__id", "=notification__user__username")
    search_help_text = "A notification id or a username."
    show_full_result_count = False


@admin.register(PushSubscription)
class PushSubscriptionAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("id", "user", "created_at")
    list_select_related = ("user",)
    search_fields = ("=user__username",)
    search_help_text = "A username."
    fields = ("user", "created_at")  # Anyone with its address and keys can push to the browser.


@admin.register(Announcement)
class AnnouncementAdmin(admin.ModelAdmin):
    """Adding an announcement publishes it. Published ones cannot be edited."""

    list_display = ("id", "message", "author", "created_at", "told_at")
    list_select_related = ("author",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Announcement, form: Any, change: bool) -> None:
        author: Any = request.user
        obj.author = author
        super().save_model(request, obj, form, change)
