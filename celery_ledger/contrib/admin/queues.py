"""The queues: their current figures, their history, and their controls."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from celery_ledger import clock
from celery_ledger.contrib.admin import charts
from celery_ledger.contrib.admin.pages import RateForm, ReadOnly, page
from celery_ledger.desk import queues
from celery_ledger.desk.permissions import STEER
from celery_ledger.models import Heartbeat
from celery_ledger.watch import failing, heartbeats, series, watchdog


class LimitsForm(RateForm):
    concurrency = forms.IntegerField(required=False)


class QueuesAdmin(ReadOnly, admin.ModelAdmin):
    """The queues: their current figures, the last hour, and their controls."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and request.user.has_perm(STEER)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            self._steer(request)
            return HttpResponseRedirect(request.get_full_path())
        past = {each.queue: each.points for each in series.of_queues(minutes=60, step=60)}
        rows = [
            {
                "state": state,
                "depth": charts.line("Not done", [(p.at, p.pending + p.published) for p in past[state.queue]]),
                "throughput": charts.line(
                    "Done per minute", [(p.at, p.completed_per_minute) for p in past[state.queue]]
                ),
                "lag": charts.line("Lag", [(p.at, p.lag_seconds) for p in past[state.queue]], unit=" s"),
            }
            for state in queues.queue_states()
        ]
        now = clock.now()
        context = {
            "title": "Queues",
            "rows": rows,
            "problems": watchdog.problems(),
            "failing": [(each, each.in_words(now)) for each in failing.failing()],
            "relays": heartbeats.at_work(Heartbeat.Kind.RELAY),
            "may_steer": request.user.has_perm(STEER),
        }
        return page(self, request, "queues.html", context)

    def _steer(self, request: HttpRequest) -> None:
        """
        Pause, resume or limit the queue that the form names.

        Raises:
            PermissionDenied: the user lacks the permission.
        """
        if not request.user.has_perm(STEER):
            raise PermissionDenied
        queue, decision = request.POST.get("queue", ""), request.POST.get("decision")
        limits = LimitsForm(request.POST)
        if not limits.is_valid():
            self.message_user(request, "Limits must be numbers.", messages.ERROR)
            return
        try:
            if decision == "pause":
                queues.pause(queue)
            elif decision == "resume":
                queues.resume(queue)
            else:
                queues.limit(queue, **limits.cleaned_data)
        except ValueError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        self.message_user(request, f"{queue}: done. Relays apply it within a second.", messages.SUCCESS)
