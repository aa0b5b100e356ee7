"""
Ending a task before it has run, for good: by an operator, by whoever enqueued it, by Celery's ``revoke``.

A row that waits, in the ledger or at the broker, becomes ``cancelled`` and is never run: a message that arrives for it
finds nothing to do. What a worker has in its hands already is left to end, and the answer says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from celery import states
from celery.exceptions import TaskRevokedError
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from celery_ledger.context import current_actor
from celery_ledger.events import tasks_settled
from celery_ledger.models import DurableTask
from celery_ledger.rows import results
from celery_ledger.rows.ledger import MAX_ERROR_LENGTH
from celery_ledger.rows.results import Outcome
from celery_ledger.signals import tasks_cancelled

Status = DurableTask.Status
#: What can be cancelled.
WAITING = (Status.PENDING, Status.PUBLISHED)
#: Tasks that are cancelled in one transaction.
PORTION = 1_000


def waiting(*, task: str | None = None, queue: str | None = None) -> QuerySet[DurableTask]:
    """Return the tasks that no worker has begun; only those of a name or a queue if given."""
    tasks = DurableTask.objects.filter(status__in=WAITING)
    if task is not None:
        tasks = tasks.filter(name=task)
    return tasks if queue is None else tasks.filter(queue=queue)


def cancel(ids: Iterable[UUID], *, reason: str) -> int:
    """
    Cancel the tasks of these ids that wait; return how many there were. Any number, in portions.

    Raises:
        ValueError: there is no reason.
    """
    chosen = list(dict.fromkeys(ids))
    return sum(
        _cancel_portion(chosen[start : start + PORTION], reason=check_reason(reason))
        for start in range(0, len(chosen), PORTION)
    )


def cancel_all(tasks: QuerySet[DurableTask], *, reason: str) -> Iterator[int]:
    """
    Cancel what of ``tasks`` waits, in portions; yield after each how many were cancelled so far.

    Raises:
        ValueError: there is no reason.
    """
    reason, done, last = check_reason(reason), 0, UUID(int=0)
    rest = tasks.filter(status__in=WAITING).order_by("id")
    while ids := list(rest.filter(id__gt=last).values_list("id", flat=True)[:PORTION]):
        done += _cancel_portion(ids, reason=reason)
        last = ids[-1]
        yield done


def check_reason(reason: str) -> str:
    """
    Return ``reason`` without the blanks around it.

    Raises:
        ValueError: there is none.
    """
    if not reason.strip():
        raise ValueError("Say why the tasks are cancelled.")
    return reason.strip()


def _cancel_portion(ids: Sequence[UUID], *, reason: str) -> int:
    """Cancel so many in one transaction, but for those that a worker holds."""
    tasks = DurableTask.objects.filter(id__in=ids, status__in=WAITING).order_by("id")
    skip = connection.features.has_select_for_update_skip_locked
    with transaction.atomic():
        rows = list(tasks.select_for_update(skip_locked=skip).values_list("id", "status", "subject"))
        if not rows:
            return 0
        DurableTask.objects.filter(id__in=[id for id, *_ in rows]).update(
            status=Status.CANCELLED,
            lease_until=None,
            completed_at=Now(),
            last_error=f"Cancelled: {reason}"[:MAX_ERROR_LENGTH],
        )
        results.record([Outcome(id, states.REVOKED, TaskRevokedError(reason)) for id, *_ in rows])
        tasks_cancelled.send_robust(
            sender=DurableTask,
            tasks=[[str(id), str(status)] for id, status, _ in rows],
            reason=reason[:500],
            who=current_actor(),
        )
    if subjects := {subject for *_, subject in rows} - {None}:
        tasks_settled.send_robust(sender=None, subjects=subjects)
    return len(rows)
