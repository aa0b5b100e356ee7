"""The audit trail in the admin."""

from django.contrib import admin

from audit_trail.models import AuditEntry
from web.read_only import ReadOnly


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, admin.ModelAdmin):
    """The audit trail, read-only."""

    list_display = ("at", "who", "what", "model", "object_id", "before", "after", "request_id")
    list_filter = ("what", "model", "at")
    list_select_related = ("who",)
    search_fields = ("=object_id", "=request_id", "=who__username")
    search_help_text = "An object id, a request id or a username."
    show_full_result_count = False
