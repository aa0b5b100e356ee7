"""Schedules as operators see them: past runs with their outcomes, next due times, and the actions on them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from celery_ledger.context import current_actor
from celery_ledger.contrib.beat import due_times, runs
from celery_ledger.contrib.beat.models import Run, SchedulePolicy
from celery_ledger.models import DurableTask
from celery_ledger.project import find_app, import_tasks
from celery_ledger.rows import homes
from celery_ledger.signals import schedule_changed

#: The permission to change schedules.
CHANGE: Final = "django_celery_beat.change_periodictask"
#: How many runs and due times are shown for each schedule.
SHOWN: Final = 5


@dataclass(frozen=True)
class PastRun:
    """A past run of a schedule. ``status`` is empty if the ledger has pruned the task."""

    task_id: str
    due_at: datetime
    enqueued_at: datetime
    status: str
    took_seconds: float | None
    error: str


@dataclass(frozen=True)
class Schedule:
    """A schedule, its latest runs, newest first, and its next due times."""

    id: int
    name: str
    task: str
    queue: str
    times: str
    enabled: bool
    catch_up: str
    last_run_at: datetime | None
    next_due: list[datetime]
    #: The oldest due time that did not run within the time its policy allows.
    late_since: datetime | None
    #: Why it can never run; empty if it can.
    problem: str
    runs: list[PastRun]


def schedules() -> list[Schedule]:
    """Return every schedule, those that need attention first."""
    late = dict(due_times.late_schedules())
    rows = PeriodicTask.objects.select_related("policy", "interval", "crontab", "clocked", "solar").order_by("name")
    rows = rows.prefetch_related("runs")
    tasks = homes.rows([run.task for row in rows for run in _latest(row)])
    found = [_schedule(row, tasks, late.get(row.name)) for row in rows]
    return sorted(found, key=lambda each: (each.late_since is None, each.enabled and not each.problem, each.name))


def _latest(row: PeriodicTask) -> list[Run]:
    return sorted(row.runs.all(), key=lambda run: run.pk, reverse=True)[:SHOWN]


def _schedule(row: PeriodicTask, tasks: dict[Any, DurableTask], late_since: datetime | None) -> Schedule:
    problem = due_times.problem_with(row) or ""
    past = [_past(run, tasks.get(run.task)) for run in _latest(row)]
    policy = getattr(row, "policy", None) or SchedulePolicy(schedule_id=row.pk)
    return Schedule(
        id=row.pk,
        name=row.name,
        task=row.task,
        queue=row.queue or "",
        times=str(row.scheduler or ""),
        enabled=row.enabled,
        catch_up=policy.catch_up,
        last_run_at=past[0].enqueued_at if past else row.last_run_at,
        next_due=_next_due(row) if row.enabled and not problem else [],
        late_since=late_since,
        problem=problem,
        runs=past,
    )


def _past(run: Run, task: DurableTask | None) -> PastRun:
    took = None
    if task and task.published_at and task.completed_at:
        took = max(0.0, (task.completed_at - task.published_at).total_seconds())
    return PastRun(
        task_id=str(run.task),
        due_at=run.due_at,
        enqueued_at=run.enqueued_at,
        status=task.status if task else "",
        took_seconds=took,
        error=task.last_error.partition("\n")[0] if task else "",
    )


def _next_due(row: PeriodicTask) -> list[datetime]:
    """Return the next due times, from now on."""
    now = timezone.now()
    start = due_times.counted_from(now, row.start_time)
    times = islice(due_times.times_after(row.schedule, start, start), SHOWN)
    return [time for time in times if row.expires is None or time < row.expires]


def run_now(id: int) -> str:
    """
    Enqueue a schedule's task at once, in addition to its due times, even if it is paused; return the task's id.

    Raises:
        LookupError: there is no such schedule.
        ValueError: its task or its arguments cannot be enqueued.
    """
    app = find_app()
    import_tasks()
    with transaction.atomic(using=runs.database()):
        row = _locked(id)
        if row.task not in app.tasks:
            raise ValueError(f"There is no task {row.task!r} here.")
        if problem := due_times.problem_with(row):
            raise ValueError(f"This schedule cannot run: {problem}")
        task_id = str(runs.enqueue(app, row, timezone.now(), key="now:").id)
        _announce(row, {}, {"run": task_id})
    return task_id


def pause(id: int) -> None:
    """
    Switch a schedule off until :func:`resume`; due times in between are skipped.

    Raises:
        LookupError: there is no such schedule.
    """
    _switch(id, enabled=False)


def resume(id: int) -> None:
    """
    Switch a schedule on again; its due times count from now.

    Raises:
        LookupError: there is no such schedule.
    """
    _switch(id, enabled=True)


#: What a person may do with a schedule.
DECISIONS: Final[dict[str, Callable[[int], object]]] = {"run-now": run_now, "pause": pause, "resume": resume}


def _switch(id: int, *, enabled: bool) -> None:
    with transaction.atomic(using=runs.database()):
        row = _locked(id)
        if row.enabled == enabled:
            return
        row.enabled = enabled
        row.save()
        _announce(row, {"enabled": not enabled}, {"enabled": enabled})


def _locked(id: int) -> PeriodicTask:
    row = PeriodicTask.objects.select_for_update().filter(pk=id).first()
    if row is None:
        raise LookupError("There is no such schedule.")
    return row


def _announce(row: PeriodicTask, before: dict[str, Any], after: dict[str, Any]) -> None:
    schedule_changed.send_robust(sender=Run, name=row.name, before=before, after=after, who=current_actor())
