"""Users in the admin, as Django has them, and the audit trail."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from core.models import AuditEntry, User
from web.read_only import ReadOnly

admin.site.register(User, UserAdmin)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, admin.ModelAdmin):
    """The audit trail, to look at."""

    list_display = ("at", "who", "what", "model", "object_id", "before", "after", "request_id")
    list_filter = ("what", "model", "at")
    list_select_related = ("who",)
    search_fields = ("=object_id", "=request_id", "=who__username")
    search_help_text = "An object's id, a request's id or a user's name."
    show_full_result_count = False
