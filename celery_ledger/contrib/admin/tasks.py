"""Durable tasks with their attempts, and the actions on dead letters."""

import time
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, Final
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from celery_ledger import databases
from celery_ledger.contrib.admin import canvases
from celery_ledger.contrib.admin.pages import (
    RateForm,
    ReadOnly,
    flower_url,
    page,
    page_address,
    reason_in,
    which_database,
)
from celery_ledger.desk import cancelling, dead_letters, decisions, searching
from celery_ledger.desk.dead_letters import Selection
from celery_ledger.desk.permissions import CANCEL, DISCARD, EDIT, REPLAY
from celery_ledger.desk.searching import Search
from celery_ledger.models import Decision, DurableTask, FailedAttempt, Tally
from celery_ledger.rows import results
from celery_ledger.rows.wording import to_the_millisecond
from celery_ledger.watch import samples

Status = DurableTask.Status
#: How many found tasks one request may decide about.
MOST_CHOSEN = 10_000
#: How long an action may take, in seconds.
PATIENCE = 10.0
#: The most results whose worker names are searched.
MOST_RESULTS = 1_000
#: The most failed attempts whose errors and workers are searched, newest first.
MOST_ATTEMPTS = 10_000
#: The most tasks that a list without a filter shows.
MOST_LISTED = 5_000
#: Query parameters that narrow a list.
FILTERS: Final = ("q", "status__exact", "name", "queue")


class ArgumentsForm(forms.Form):
    args = forms.JSONField(label="Positional arguments", widget=forms.Textarea(attrs={"rows": 4}))
    kwargs = forms.JSONField(label="Keyword arguments", required=False, widget=forms.Textarea(attrs={"rows": 4}))

    def clean_args(self) -> list[Any]:
        args = self.cleaned_data["args"]
        if not isinstance(args, list):
            raise forms.ValidationError("Positional arguments are a JSON array.")
        return args

    def clean_kwargs(self) -> dict[str, Any]:
        kwargs = self.cleaned_data["kwargs"] or {}
        if not isinstance(kwargs, dict):
            raise forms.ValidationError("Keyword arguments are a JSON object.")
        return kwargs


class DecisionForm(ActionForm):
    """The fields next to the choice of an action: a reason for discarding, a rate for replaying."""

    per_second = forms.CharField(required=False, label="Replay per second:", widget=forms.NumberInput({"step": "any"}))
    reason = forms.CharField(
        required=False, label="Reason to discard or cancel:", widget=forms.TextInput({"maxlength": 300})
    )


class QueueFilter(admin.SimpleListFilter):
    """Filters by queue; the choices come from the settings, so that no table of millions is scanned for its values."""

    title = parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(queue, queue) for queue in samples.queue_names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> QuerySet[DurableTask]:
        return queryset.filter(queue=self.value()) if self.value() else queryset


class DatabaseFilter(admin.SimpleListFilter):
    """Chooses one of several databases; the whole page shows what is in it."""

    title = parameter_name = "database"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(alias, alias) for alias in databases.aliases()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> QuerySet[DurableTask]:
        return queryset

    def choices(self, changelist: Any) -> Iterator[Any]:
        for alias, _ in self.lookup_choices:
            query = changelist.get_query_string({"database": alias})
            yield {"selected": alias == databases.current(), "query_string": query, "display": alias}


class NameFilter(admin.SimpleListFilter):
    """Filters by task name; the choices are names of tasks that were ever published."""

    title = parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = Tally.objects.order_by("name").values_list("name", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> QuerySet[DurableTask]:
        return queryset.filter(name=self.value()) if self.value() else queryset


def _search_of(request: HttpRequest, words: str) -> Search:
    """Return the search that the list's filters and the search text stand for."""
    state = request.GET.get("status__exact")
    given = Search(
        state=state if state in Status.values else None,
        task=request.GET.get("name") or None,
        queue=request.GET.get("queue") or None,
    )
    return searching.meant_by(words.replace("\0", ""), given)


def _is_unfiltered(request: HttpRequest) -> bool:
    return not any(request.GET.get(key) for key in FILTERS)


def _named_elsewhere(words: str) -> set[UUID]:
    """Return the ids of tasks with these words in a recent failed attempt, or in the name of its worker."""
    last = FailedAttempt.objects.order_by("-id").values_list("id", flat=True).first() or 0
    latest = FailedAttempt.objects.filter(id__gt=last - MOST_ATTEMPTS)
    failed = latest.filter(Q(error__icontains=words) | Q(worker__icontains=words)).values_list("task_id", flat=True)
    return {*failed, *results.done_by(words, most=MOST_RESULTS)}


def _what_is_left(page: searching.Page) -> str:
    if page.looked_to is None:
        return f"More tasks match: the newest {searching.MOST_A_PAGE} are listed. Narrow the search to see others."
    return f"Searched back to {page.looked_to:%Y-%m-%d %H:%M} UTC. Narrow the search to look further back."


class DurableTaskAdmin(ReadOnly, admin.ModelAdmin):
    """Durable tasks, newest first, with the actions on dead letters."""

    list_display = (
        "name",
        "subject",
        "status",
        "error",
        "created",
        "attempts",
        "in_flower",
    )
    action_form = DecisionForm
    change_form_template = "celery_ledger_admin/task.html"
    change_list_template = "celery_ledger_admin/tasks.html"
    list_filter = ("status", QueueFilter, NameFilter)
    search_fields = ("id",)  # See get_search_results.
    search_help_text = (
        "A task id, a subject such as app.model:42, a request id, a worker, or part of a task name or of an error."
    )
    ordering = ("-id",)
    actions = ("replay", "discard", "cancel", "terminate", "cancel_canvases")
    show_full_result_count = False
    list_per_page = 50
    readonly_fields = ("all_attempts", "result", "whole_canvas", "decide", "in_flower")

    def get_paginator(self, request: HttpRequest, queryset: QuerySet[DurableTask], *args: Any, **options: Any) -> Any:
        paginator = super().get_paginator(request, queryset, *args, **options)
        if _is_unfiltered(request):
            paginator.count = min(searching.count(Search()).rows, MOST_LISTED)
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[DurableTask], search_term: str
    ) -> tuple[QuerySet[DurableTask], bool]:
        """
        Narrow the filtered ``queryset`` to possible meanings of the search text; see ``search_help_text``.

        Where no index leads to the rows, the list is what a time-limited search finds, newest first.
        """
        search = _search_of(request, search_term)
        ids = _named_elsewhere(search.words) if search.words else set()
        if search.is_whole_base():
            return queryset, False
        if search.id or search.subject or search.state not in searching.UNINDEXED:
            return queryset.filter(id__in=search.tasks().values("id")) | queryset.filter(id__in=ids), False
        found = searching.page(search, size=searching.MOST_A_PAGE)
        if found.after is not None and request.method == "GET":
            self.message_user(request, _what_is_left(found), messages.WARNING)
        return queryset.filter(id__in=ids.union(task.pk for task in found.tasks)), False

    def own_urls(self) -> list[URLPattern]:
        own = [
            path("dead/", self.admin_site.admin_view(self.dead_view), name="celery_ledger_durabletask_dead"),
            path(
                "<uuid:task_id>/flower/",
                self.admin_site.admin_view(self.flower_view),
                name="celery_ledger_durabletask_flower",
            ),
            path(
                "<uuid:task_id>/edit/",
                self.admin_site.admin_view(self.edit_view),
                name="celery_ledger_durabletask_edit",
            ),
        ]
        return [*own, *canvases.urls(self)]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        own: dict[str, Any] = {"flower_url": flower_url(), "most_listed": MOST_LISTED, **which_database()}
        if _is_unfiltered(request) and (count := searching.count(Search())).rows > MOST_LISTED:
            own["how_many"] = count
        return super().changelist_view(request, {**own, **(extra_context or {})})

    def get_list_filter(self, request: HttpRequest) -> Any:
        return (*([DatabaseFilter] if databases.are_several() else []), *super().get_list_filter(request))

    def get_list_display(self, request: HttpRequest) -> Any:
        return [column for column in super().get_list_display(request) if self._has(column)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = [field for field in super().get_readonly_fields(request, obj) if self._has(field)]
        return [field for field in fields if field != "whole_canvas" or (obj is not None and obj.canvas)]

    def _has(self, field: Any) -> bool:
        """Whether the target of ``field`` exists: Flower, or results."""
        return (field != "in_flower" or bool(flower_url())) and (field != "result" or results.are_kept())

    def flower_view(self, request: HttpRequest, task_id: UUID) -> HttpResponse:
        """
        Redirect to the task's page in Flower.

        Raises:
            Http404: Flower's address is not configured.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        if not flower_url():
            raise Http404("FLOWER_URL is not set.")
        return HttpResponseRedirect(f"{flower_url().rstrip('/')}/task/{task_id}")

    # --- Columns ---

    @admin.display(description="Created (UTC)", ordering="id")
    def created(self, task: DurableTask) -> str:
        return f"{task.created_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="Last error")
    def error(self, task: DurableTask) -> str:
        return Truncator(task.last_error).chars(80)

    @admin.display(description="Flower")
    def in_flower(self, task: DurableTask) -> SafeString:
        address = page_address(self, "celery_ledger_durabletask_flower", task.pk)
        return format_html('<a href="{}" rel="noreferrer">show</a>', address)

    @admin.display(description="Attempts")
    def all_attempts(self, task: DurableTask) -> SafeString | str:
        rows = [
            (
                attempt.number,
                to_the_millisecond(attempt.published_at),
                to_the_millisecond(attempt.failed_at),
                attempt.worker,
                attempt.error,
            )
            for attempt in task.failed_attempts.order_by("id")
        ]
        if task.status == DurableTask.Status.SUCCEEDED:
            worker = results.of([task.pk]).values_list("worker", flat=True).first() if results.are_kept() else None
            rows.append(
                (
                    task.attempts,
                    to_the_millisecond(task.published_at),
                    to_the_millisecond(task.completed_at),
                    worker or "",
                    "succeeded",
                )
            )
        if not rows:
            return "none has ended"
        return format_html(
            "<table><thead><tr><th>attempt</th><th>published</th><th>ended (UTC)</th><th>worker</th><th>how</th></tr>"
            "</thead><tbody>{}</tbody></table>",
            format_html_join("", "<tr>" + "<td>{}</td>" * 5 + "</tr>", rows),
        )

    @admin.display(description="Result")
    def result(self, task: DurableTask) -> SafeString | str:
        result = results.of([task.pk]).first()
        if result is None:
            return "none"
        address = reverse(
            "admin:django_celery_results_taskresult_change", args=[result.pk], current_app=self.admin_site.name
        )
        return format_html('<a href="{}">{}</a>', address, result.status)

    @admin.display(description="Its canvas")
    def whole_canvas(self, task: DurableTask) -> SafeString | str:
        return canvases.shown(self, task.canvas, here=task.pk) if task.canvas else "none"

    @admin.display(description="Decide")
    def decide(self, task: DurableTask) -> SafeString | str:
        alone = page_address(self, "celery_ledger_durabletask_changelist", query={"q": task.pk})
        if task.status in cancelling.UNENDED:
            return format_html('<a href="{}">Cancel it</a>, also while it runs', alone)
        if task.status != DurableTask.Status.DEAD:
            return "It has ended; no action is possible."
        edit = page_address(self, "celery_ledger_durabletask_edit", task.pk)
        text = '<a href="{}">Replay or discard</a>, or <a href="{}">replay with other arguments</a>'
        return format_html(text, alone, edit)

    # --- Decisions ---

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(REPLAY)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CANCEL)

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(DISCARD)

    @admin.action(description="Replay dead tasks", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> None:
        self._decide("replay", request, self._chosen(request, queryset))

    @admin.action(description="Discard dead tasks", permissions=["discard"])
    def discard(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> None:
        self._decide("discard", request, self._chosen(request, queryset))

    @admin.action(description="Cancel waiting tasks", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> None:
        self._cancel(request, cancelling.cancel_all(queryset.order_by(), reason=reason_in(request)))

    @admin.action(description="Cancel tasks, also those that run", permissions=["cancel"])
    def terminate(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> None:
        reason = reason_in(request)
        self._cancel(request, cancelling.cancel_all(queryset.order_by(), reason=reason, terminate=True))

    @admin.action(description="Cancel whole chains, groups and chords", permissions=["cancel"])
    def cancel_canvases(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> None:
        reason = reason_in(request)
        found = queryset.order_by("canvas").exclude(canvas=None).values_list("canvas", flat=True).distinct()
        each = (cancelling.cancel_canvas(str(canvas), reason=reason) for canvas in found[:MOST_CHOSEN])
        self._cancel(request, accumulate(each))

    def _cancel(self, request: HttpRequest, counts: Iterable[int]) -> None:
        """Cancel step by step; each of ``counts`` is how many tasks are cancelled so far."""
        count, end = 0, time.monotonic() + PATIENCE
        try:
            for so_far in counts:
                count = so_far
                if time.monotonic() > end:
                    self.message_user(request, "More tasks may match. Repeat the action.", messages.WARNING)
                    break
        except ValueError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        done = f"{count} task{'' if count == 1 else 's'} cancelled."
        self.message_user(request, done, messages.SUCCESS if count else messages.WARNING)

    def _chosen(self, request: HttpRequest, queryset: QuerySet[DurableTask]) -> list[UUID] | Selection:
        """Return the ids of the selected tasks or, if everything in a filtered list was selected, the list's search."""
        filters = set(request.GET) <= {"status__exact", "queue", "name", "database", "p", "o"}
        dead = request.GET.get("status__exact", DurableTask.Status.DEAD) == DurableTask.Status.DEAD
        if request.POST.get("select_across") == "1" and filters and dead:
            return Selection(task=request.GET.get("name"), queue=request.GET.get("queue"))
        return list(queryset.filter(status=DurableTask.Status.DEAD).values_list("id", flat=True)[:MOST_CHOSEN])

    def dead_view(self, request: HttpRequest) -> HttpResponse:
        """List dead letters by kind of error, with the actions on each kind."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            self._decide_on_group(request)
            return HttpResponseRedirect(request.get_full_path())
        groups = dead_letters.groups()
        context = {
            "title": "Dead letters",
            "groups": groups,
            "total": sum(group.count for group in groups),
            "may_replay": self.has_replay_permission(request),
            "may_discard": self.has_discard_permission(request),
            "decisions": decisions.recent(),
            "slowest": dead_letters.SLOWEST,
            "fastest": dead_letters.FASTEST,
        }
        return page(self, request, "dead.html", context)

    def _decide_on_group(self, request: HttpRequest) -> None:
        """
        Replay or discard the group that the form names, and report how many tasks it had.

        Raises:
            PermissionDenied: the user lacks the permission.
        """
        group = Selection(fingerprint=request.POST.get("fingerprint", "").replace("\0", ""))
        decision = request.POST.get("decision")
        if not (self.has_discard_permission if decision == "discard" else self.has_replay_permission)(request):
            raise PermissionDenied
        self._decide("discard" if decision == "discard" else "replay", request, group)

    def _decide(self, decision: str, request: HttpRequest, chosen: list[UUID] | Selection) -> None:
        """Replay or discard dead tasks at the rate, or for the reason, in the form, and report how many."""
        rate = RateForm(request.POST)
        if not rate.is_valid():
            self.message_user(request, "Enter the rate as a number of tasks per second.", messages.ERROR)
            return
        reason, per_second = reason_in(request), rate.cleaned_data["per_second"]
        underway: Decision | None = None
        try:
            if isinstance(chosen, Selection):
                what = Decision.What(decision)
                count, underway = decisions.decide(what, chosen, reason=reason, per_second=per_second)
            elif decision == "discard":
                count = dead_letters.discard(chosen, reason=reason)
            else:
                count = dead_letters.replay(chosen, per_second=per_second)
        except ValueError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        done = f"{count} task{'' if count == 1 else 's'} {decision}ed."
        if underway:
            where = page_address(self, "celery_ledger_durabletask_dead")
            text = '{} tasks are being {}ed in batches: <a href="{}">view progress</a>.'
            done = format_html(text, count, decision, where)
        self.message_user(request, done, messages.SUCCESS if count else messages.WARNING)
        if count == MOST_CHOSEN and not underway:
            self.message_user(request, "More tasks may match. Repeat the action.", messages.WARNING)

    def edit_view(self, request: HttpRequest, task_id: UUID) -> HttpResponse:
        """
        Replay a single dead letter with different arguments.

        Raises:
            Http404: there is no such dead letter.
        """
        if not (request.user.has_perm(REPLAY) and request.user.has_perm(EDIT)):
            raise PermissionDenied
        task = dead_letters.dead_tasks().filter(id=task_id).first()
        if task is None:
            raise Http404("Dead letter not found.")
        form = ArgumentsForm(request.POST or None, initial={"args": task.args, "kwargs": task.kwargs})
        if form.is_valid():
            try:
                if dead_letters.replay_edited(task_id, **form.cleaned_data):
                    self.message_user(request, "The task is replayed with these arguments.", messages.SUCCESS)
                else:
                    self.message_user(request, "The task is no longer dead.", messages.WARNING)
                return HttpResponseRedirect(page_address(self, "celery_ledger_durabletask_change", task_id))
            except (TypeError, LookupError) as error:
                form.add_error(None, str(error))
        context = {"title": "Replay with other arguments", "task": task, "form": form}
        return page(self, request, "edit.html", context)
