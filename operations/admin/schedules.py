"""django-celery-beat's schedules, with when they ran, when they are due, and what becomes of missed due times."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask, SolarSchedule

from operations.admin.pages import to_the_millisecond
from worker import due_times
from worker.models import SchedulePolicy

#: Seconds after which a due time that has not run is shown as late.
GRACE = 60


class SchedulePolicyInline(admin.StackedInline):
    model = SchedulePolicy
    can_delete = False


# They are registered by their own module, which is imported above. Solar schedules are not served.
admin.site.unregister([PeriodicTask, SolarSchedule])


@admin.register(PeriodicTask)
class ScheduleAdmin(PeriodicTaskAdmin):
    """django-celery-beat's, with when each ran last and is due next, and what becomes of due times that are missed."""

    list_display = ("name", "enabled", "scheduler", "last_run_at", "due_next", "late")
    inlines = [SchedulePolicyInline]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Offer every kind of schedule but the solar one."""
        return [
            (title, {**options, "fields": [field for field in options["fields"] if field != "solar"]})
            for title, options in super().get_fieldsets(request, obj)
        ]

    @admin.display(description="Due next")
    def due_next(self, task: PeriodicTask) -> str:
        due = due_times.next_due(task) if task.enabled and not task.solar else None
        return to_the_millisecond(due) or "-"

    @admin.display(description="Late")
    def late(self, task: PeriodicTask) -> SafeString | str:
        due = due_times.next_due(task) if task.enabled and not task.solar else None
        seconds = (timezone.now() - due).total_seconds() if due else 0
        return format_html("<b>{} s</b>", int(seconds)) if seconds > GRACE else "-"
