"""django-celery-beat's schedules, with their last runs, next due times, and the policy for missed due times."""

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.admin import (
    ClockedScheduleAdmin,
    CrontabScheduleAdmin,
    IntervalScheduleAdmin,
    PeriodicTaskAdmin,
    PeriodicTaskForm,
)
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from celery_ledger.contrib.beat import due_times
from celery_ledger.contrib.beat.models import SchedulePolicy
from celery_ledger.rows.wording import to_the_millisecond

#: Seconds after which a due time without a run is shown as late.
LATE_AFTER = 60


class SchedulePolicyInline(admin.StackedInline):
    model = SchedulePolicy
    can_delete = False


# They are registered by their own module, which is imported above. Solar schedules are not offered.
admin.site.unregister([PeriodicTask, CrontabSchedule, IntervalSchedule, ClockedSchedule, SolarSchedule])


class TimesForm(forms.ModelForm):
    """Refuses times that never come, such as 31 February."""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if not self.errors and (problem := due_times.problem_with_times(self.instance)):
            self.add_error(None, f"This schedule can never run: {problem}")


@admin.register(CrontabSchedule)
class CrontabAdmin(CrontabScheduleAdmin):
    """django-celery-beat's admin, which refuses times that never come."""

    form = TimesForm


@admin.register(IntervalSchedule)
class IntervalAdmin(IntervalScheduleAdmin):
    """django-celery-beat's admin, which refuses times that never come."""

    form = TimesForm


@admin.register(ClockedSchedule)
class ClockedAdmin(ClockedScheduleAdmin):
    """django-celery-beat's admin, which refuses times that never come."""

    form = TimesForm


class ScheduleForm(PeriodicTaskForm):
    """Refuses times that never come, and arguments that its task does not accept."""

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean()
        for kind in ("interval", "crontab", "clocked"):
            if (times := data.get(kind)) and (problem := due_times.problem_with_times(times)):
                self.add_error(kind, f"This schedule can never run: {problem}")
        if not isinstance(json.loads(data.get("args") or "[]"), list):
            self.add_error("args", "Enter a JSON array.")
        if not isinstance(json.loads(data.get("kwargs") or "{}"), dict):
            self.add_error("kwargs", "Enter a JSON object.")
        return data


@admin.register(PeriodicTask)
class ScheduleAdmin(PeriodicTaskAdmin):
    """django-celery-beat's admin, with last runs, next due times, and the policy for missed due times."""

    form = ScheduleForm
    change_form_template = "celery_ledger_beat/schedule.html"
    list_display = ("name", "enabled", "scheduler", "last_run_at", "due_next", "late")
    inlines = [SchedulePolicyInline]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Offer every kind of schedule except solar ones."""
        return [
            (title, {**options, "fields": [field for field in options["fields"] if field != "solar"]})
            for title, options in super().get_fieldsets(request, obj)
        ]

    @admin.display(description="Due next")
    def due_next(self, task: PeriodicTask) -> str:
        if problem := due_times.problem_with(task):
            return f"never: {problem}"
        due = due_times.next_due(task) if task.enabled else None
        return to_the_millisecond(due) or "-"

    @admin.display(description="Late")
    def late(self, task: PeriodicTask) -> SafeString | str:
        due = due_times.next_due(task) if task.enabled and not due_times.problem_with(task) else None
        seconds = (timezone.now() - due).total_seconds() if due else 0
        return format_html("<b>{} s</b>", int(seconds)) if seconds > LATE_AFTER else "-"
