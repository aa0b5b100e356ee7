"""
The timeline of one task: its caller, each publication, each attempt, its end, and the calls it made.

Taken from what the ledger keeps. For attempts before the last one that is when they were published and how they failed;
for the call, the request and the task whose body made it.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import Q

from celery_ledger import clock
from celery_ledger.models import DurableTask, FailedAttempt, Result
from celery_ledger.rows import results
from celery_ledger.uuid7 import first_uuid7_at

Status = DurableTask.Status
#: The most called tasks that are shown, and the most that are searched for them.
MOST_CALLED, MOST_LOOKED_AT = 50, 20_000
#: Headers with which tracing tools pass on a trace, and which part of them is its id.
TRACE_HEADERS = "traceparent", "sentry-trace"
TRACE_ID = re.compile(r"(?:^|-)([0-9a-f]{32})-[0-9a-f]{16}\b")
#: A body's calls are written by the time it ends, give or take the difference between two machines' clocks.
MARGIN = timedelta(seconds=2)


class Kind(StrEnum):
    ENQUEUED = "enqueued"
    DUE = "due"
    PUBLISHED = "published"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    DIED = "died"
    CANCELLED = "cancelled"
    EXPIRES = "expires"


ENDS = (Kind.SUCCEEDED, Kind.DIED, Kind.CANCELLED)


@dataclass(frozen=True)
class Event:
    """A past or future event of a task. ``traceback`` and ``worker`` are empty if unknown."""

    at: datetime
    kind: Kind
    text: str
    attempt: int | None = None
    worker: str = ""
    traceback: str = ""
    #: Seconds from its publishing.
    took: float | None = None
    is_ahead: bool = False


@dataclass(frozen=True)
class Relative:
    """A related task."""

    id: UUID
    name: str
    status: str


@dataclass(frozen=True)
class Life:
    task: DurableTask
    events: list[Event]
    #: What it returned, or its progress, as JSON; None if nothing is known.
    result: str | None
    #: The task whose body made the call.
    parent: Relative | None
    #: The id of the trace that OpenTelemetry or Sentry gave the call; empty if there is none.
    trace: str = ""
    #: The first of the tasks that its body called.
    called: list[Relative] = field(default_factory=list)


def life_of(id: UUID) -> Life | None:
    """Return the timeline of a task; None: it does not exist."""
    task = DurableTask.objects.filter(id=id).first()
    if task is None:
        return None
    failed = list(task.failed_attempts.all())
    result, worker = _result_of(task)
    return Life(
        task=task,
        events=_events(task, failed, worker),
        result=result,
        parent=_parent_of(task),
        trace=_trace_of(task),
        called=_called_by(task, failed),
    )


def _events(task: DurableTask, failed: list[FailedAttempt], worker: str) -> list[Event]:
    by = f" by request {task.request_id}" if task.request_id else ""
    if (actor := (task.options or {}).get("actor")) is not None:
        by += f" of {_name_of(actor)}"
    events = [Event(task.created_at, Kind.ENQUEUED, f"Enqueued in {task.queue}{by}, priority {task.priority}.")]
    published = set()
    for attempt in failed:
        if attempt.published_at is not None:
            published.add(attempt.published_at)
            events.append(Event(attempt.published_at, Kind.PUBLISHED, "Sent to the broker.", attempt.number))
        took = None if attempt.published_at is None else (attempt.failed_at - attempt.published_at).total_seconds()
        events.append(
            Event(
                attempt.failed_at, Kind.FAILED, attempt.error, attempt.number, attempt.worker, attempt.traceback, took
            )
        )
    if task.published_at is not None and task.published_at not in published and task.status != Status.PENDING:
        number = max(task.attempts, 1) if task.status == Status.SUCCEEDED else task.attempts + 1
        begun = task.status == Status.RUNNING
        text = "Sent to the broker; a worker runs it." if begun else "Sent to the broker."
        events.append(Event(task.published_at, Kind.PUBLISHED, text, None if task.status == Status.DEAD else number))
    events += _end_of(task, worker)
    # In the order in which they happened: a row records a failed attempt just after the failure that ended it.
    return sorted(events, key=lambda event: (event.is_ahead, event.kind in ENDS, event.at))


def _end_of(task: DurableTask, worker: str) -> list[Event]:
    now = clock.now()
    if task.status == Status.PENDING:
        again = "Tried again" if task.attempts else "Due"
        ahead = task.available_at > now
        text = f"{again}." if ahead else f"{again}: a relay publishes it next, unless its queue is paused or limited."
        events = [Event(task.available_at, Kind.DUE, text, is_ahead=ahead)]
        if task.expires_at is not None:
            events.append(Event(task.expires_at, Kind.EXPIRES, "Cancelled if it has not started.", is_ahead=True))
        return events
    if task.completed_at is None:
        return []
    took = None if task.published_at is None else (task.completed_at - task.published_at).total_seconds()
    if task.status == Status.SUCCEEDED:
        return [Event(task.completed_at, Kind.SUCCEEDED, "Succeeded.", max(task.attempts, 1), worker, took=took)]
    if task.status == Status.DEAD:
        return [Event(task.completed_at, Kind.DIED, task.last_error)]
    if task.status == Status.CANCELLED:
        return [Event(task.completed_at, Kind.CANCELLED, task.last_error)]
    return []


def _result_of(task: DurableTask) -> tuple[str | None, str]:
    """Return the task's result, as JSON, and the worker that ended it; empty if results are not kept."""
    own = Result.objects.filter(id=task.id).values_list("value", flat=True).first()
    if own is not None:
        return own, ""
    if results.are_kept():
        kept = results.of([task.id]).values_list("result", "worker").first()
        if kept is not None:
            return kept[0], kept[1] or ""
    return None, ""


def _name_of(actor: int) -> str:
    """Return the name of the user with this id."""
    user = get_user_model()._default_manager.filter(pk=actor).first()
    return f"user {actor}, who is deleted" if user is None else str(user.get_username())


def _trace_of(task: DurableTask) -> str:
    headers = (task.options or {}).get("headers") or {}
    found = (TRACE_ID.search(str(headers.get(name, ""))) for name in TRACE_HEADERS)
    return next((match[1] for match in found if match), "")


def _parent_of(task: DurableTask) -> Relative | None:
    given = (task.options or {}).get("parent_id")
    try:
        id = UUID(str(given))
    except ValueError:
        return None
    return _relatives(Q(id=id), most=1)[0] if DurableTask.objects.filter(id=id).exists() else None


def _called_by(task: DurableTask, failed: list[FailedAttempt]) -> list[Relative]:
    """Return the calls made by its body: tasks enqueued while it ran that name it as their parent."""
    times = [attempt.published_at for attempt in failed] + [task.published_at]
    begun = min((moment for moment in times if moment is not None), default=None)
    if begun is None:
        return []
    end = task.completed_at or clock.now()
    meanwhile = DurableTask.objects.filter(id__gte=first_uuid7_at(begun - MARGIN), id__lt=first_uuid7_at(end + MARGIN))
    edge = meanwhile.order_by("id").values_list("id", flat=True)[MOST_LOOKED_AT : MOST_LOOKED_AT + 1].first()
    looked_at = meanwhile if edge is None else meanwhile.filter(id__lt=edge)
    ids = looked_at.filter(options__parent_id=str(task.id)).order_by("id").values_list("id", flat=True)
    return _relatives(Q(id__in=list(ids[:MOST_CALLED])), most=MOST_CALLED)


def _relatives(which: Q, *, most: int) -> list[Relative]:
    rows = DurableTask.objects.filter(which).order_by("id").values_list("id", "name", "status")
    return [Relative(*row) for row in rows[:most]]
