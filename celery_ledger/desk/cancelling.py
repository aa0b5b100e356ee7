"""
Ending a task permanently: by an operator, by the code that enqueued it, or by Celery's ``revoke``.

A row that waits, in the ledger or at the broker, becomes ``cancelled`` and is never run: a message that arrives for it
finds nothing to do, and a message that it shares with others still runs those. A task that a worker already holds is
left to finish, and the answer says so, unless it is to be terminated. Then its process is killed, and its row is ended
even if no worker hears of it: a success that comes late is not recorded. Where the body runs inside a transaction, that
transaction holds the row. Whichever comes first wins: the body's commit, or the rollback that cancels it.

A message may carry more rows than the one that is terminated. These die with the process and come back at once, without
counting an attempt, because their work was in the transaction that was rolled back.
"""

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db import OperationalError
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from celery_ledger import databases
from celery_ledger.context import current_actor
from celery_ledger.databases import atomic, connection, on_commit
from celery_ledger.desk import processes
from celery_ledger.ids import row_id
from celery_ledger.models import Chord, DurableTask, Step
from celery_ledger.rows import canvases, homes, revoking, stamps
from celery_ledger.rows.revoking import Revoked
from celery_ledger.signals import tasks_cancelled

logger = logging.getLogger(__name__)

Status = DurableTask.Status
#: Statuses that can be cancelled.
WAITING = (Status.PENDING, Status.PUBLISHED)
#: Statuses that can be cancelled by terminating.
UNENDED = (*WAITING, Status.RUNNING)
#: Statuses of a row that a process may hold.
HELD = (Status.PUBLISHED, Status.RUNNING)
#: Tasks that are cancelled in one transaction.
PORTION = 1_000
#: At most this many future calls are looked for at a time, because each is looked for everywhere.
MOST_LATER = 100
#: Seconds to wait for a row that a killed process held, and seconds between two checks.
PATIENCE = 5.0
PATIENCE_OF_A_CANVAS = 1.0
PATIENCE_OF_A_WORKER = 2.0  # Its event loop waits.
PAUSE = 0.05


def waiting(*, task: str | None = None, queue: str | None = None, begun: bool = False) -> QuerySet[DurableTask]:
    """Return the tasks that no worker has started (``begun``: those as well), optionally of one name or queue."""
    tasks = DurableTask.objects.filter(status__in=UNENDED if begun else WAITING)
    if task is not None:
        tasks = tasks.filter(name=task)
    return tasks if queue is None else tasks.filter(queue=queue)


def due(*, queues: Collection[str]) -> QuerySet[DurableTask]:
    """Return the tasks of ``queues`` that could start now: at the broker, due, or held back by their rate."""
    is_due = Q(status=Status.PUBLISHED) | Q(status=Status.PENDING, available_at__lte=Now())
    is_held = Q(status=Status.PENDING, held_since__isnull=False)
    return DurableTask.objects.filter(is_due | is_held, queue__in=queues)


def cancel(
    which: "UUID | str | Iterable[UUID | str] | QuerySet[DurableTask] | Q",
    *,
    reason: str,
    terminate: bool = False,
    signal: str | int | None = None,
) -> int:
    """
    Cancel waiting tasks permanently, and return how many.

    A step of a chain or the body of a chord can be cancelled by its id before its turn has come; it ends when its turn
    comes.

    ``which``: an id, ids, a queryset of :class:`~celery_ledger.models.DurableTask`, or a ``Q`` for one. There may be
    any number; they are handled in portions, in the caller's transaction if there is one.

    With ``terminate``, running tasks are cancelled too: their processes are sent ``signal`` (``TERM`` by default), and
    a success that comes late is not recorded. Inside a transaction this happens after the commit, and the returned
    number does not include them. A task that does not end within seconds, such as one in a pool of threads that runs
    inside a transaction, is left to finish and is not counted.

    Raises:
        ValueError: the reason is empty, or the signal is unknown.
        AwayError: of several databases, one that did not answer may have some of the ids; all others are cancelled.
    """
    if isinstance(which, Q):
        which = DurableTask.objects.filter(which)
    if isinstance(which, QuerySet):
        return max(cancel_all(which, reason=reason, terminate=terminate, signal=signal), default=0)
    reason, signum = check_reason(reason), processes.signum_of(signal) if terminate else None
    ids = [which] if isinstance(which, (UUID, str)) else which
    chosen = {row_id(id): str(id) for id in ids}
    done = 0
    away: dict[str, Exception] = {}
    rows = list(chosen)
    for start in range(0, len(rows), PORTION):
        for alias, portion in homes.by_database(rows[start : start + PORTION]).items():
            try:
                with databases.using(alias):
                    done += _cancel_portion(portion, reason=reason, signum=signum)
            except databases.AWAY as error:
                if not databases.are_several():
                    raise
                away[alias] = error
    done += len(cancel_later(list(chosen.values()), reason=reason))
    if away:
        raise databases.AwayError(away)
    return done


def cancel_later(ids: Sequence[str], *, reason: str) -> list[str]:
    """
    Cancel those of these calls that belong to a canvas and are not made yet; return their ids.

    This reads everything that is kept about canvases.

    Raises:
        AwayError: a database of several did not answer; calls in the others are cancelled.
    """
    known: set[UUID] = set()
    for start in range(0, len(ids), PORTION):
        portion = [row_id(id) for id in ids[start : start + PORTION]]
        known.update(homes.statuses(portion))
    if not (unknown := [id for id in ids if row_id(id) not in known]):
        return []

    def revoke() -> list[str]:
        with atomic():
            return revoking.revoke_later(unknown[:MOST_LATER], why=reason)

    return [id for _, revoked in databases.each(revoke) for id in revoked]


def cancel_all(
    tasks: QuerySet[DurableTask], *, reason: str, terminate: bool = False, signal: str | int | None = None
) -> Iterator[int]:
    """
    Cancel ``tasks`` as :func:`cancel` does, in portions; yield after each how many were cancelled so far.

    Raises:
        ValueError: the reason is empty, or the signal is unknown.
    """
    reason, signum = check_reason(reason), processes.signum_of(signal) if terminate else None
    done, last = 0, UUID(int=0)
    rest = tasks.filter(status__in=UNENDED if terminate else WAITING).order_by("id")
    while ids := list(rest.filter(id__gt=last).values_list("id", flat=True)[:PORTION]):
        with databases.using(tasks.db):
            done += _cancel_portion(ids, reason=reason, signum=signum)
        last = ids[-1]
        yield done


def cancel_canvas(id: "UUID | str", *, reason: str, terminate: bool = False, signal: str | int | None = None) -> int:
    """
    Cancel a whole chain, group or chord as :func:`cancel` does; ``id`` is its own or that of any of its tasks.

    Its running tasks are left to finish unless they are to be terminated, and nothing follows from them. Errbacks that
    were called, by this or before, are left to run.

    Raises:
        ValueError: the reason is empty, or the signal or the canvas is unknown.
    """
    reason = check_reason(reason)
    with databases.using(homes.of_canvas(row_id(id))):
        return _cancel_canvas(canvas_of(id), reason=reason, terminate=terminate, signal=signal)


def _cancel_canvas(canvas: UUID, *, reason: str, terminate: bool, signal: str | int | None) -> int:
    # Errbacks, which this calls too, are to run.
    is_no_errback = Q(**{f"options__{canvases.KEY}__{canvases.ERRBACK}__isnull": True})
    tasks = DurableTask.objects.filter(is_no_errback, canvas=canvas)
    stamps.revoke_canvas(canvas)
    done = cancel(tasks, reason=reason, terminate=terminate, signal=signal)
    late = 0

    def look_again() -> None:
        nonlocal late
        until = time.monotonic() + PATIENCE_OF_A_CANVAS
        while tasks.filter(status__in=UNENDED).exists() and time.monotonic() < until:
            time.sleep(PAUSE)
            late += cancel(tasks, reason=reason)

    # Tasks that were ending at that moment did not see yet that nothing is to follow.
    on_commit(look_again)
    return done + late


def canvas_of(id: "UUID | str") -> UUID:
    """
    Return the canvas of a task; the id of a canvas is returned unchanged.

    Raises:
        ValueError: ``id`` is neither a canvas nor a task of one.
    """
    canvas: UUID | None = DurableTask.objects.filter(id=row_id(id)).values_list("canvas", flat=True).first()
    if canvas is None and any(kept.objects.filter(canvas=row_id(id)).exists() for kept in (DurableTask, Step, Chord)):
        canvas = row_id(id)
    if canvas is None:
        raise ValueError(f"{id} is not a chain, group or chord, nor a task of one.")
    return canvas


def check_reason(reason: str) -> str:
    """
    Return ``reason`` without surrounding whitespace.

    Raises:
        ValueError: it is empty.
    """
    if not reason.strip():
        raise ValueError("Say why the tasks are cancelled.")
    return reason.strip()


def terminate_here(pool: Any, ids: Sequence[UUID], *, reason: str, signum: int) -> list[UUID]:
    """Kill this worker's processes that run these rows, then end the rows; return them."""
    then = partial(_end_patiently, reason=reason, signum=signum, patience=PATIENCE_OF_A_WORKER)
    return processes.kill_here(pool, ids, signum=signum, then=then)


def end(
    ids: Sequence[UUID],
    *,
    reason: str,
    signum: int | None,
    killed: Sequence[str] = (Status.RUNNING,),
    who: int | None = None,
) -> list[Revoked]:
    """
    End waiting rows and, if their processes are killed by ``signum``, running ones; skip locked rows.

    ``killed`` holds the statuses of rows whose processes are to be killed. ``who`` made the decision; by default, the
    user of the current request.
    """
    tasks = DurableTask.objects.filter(id__in=ids, status__in=WAITING if signum is None else UNENDED).order_by("id")
    with atomic():
        rows = revoking.revoke(
            tasks,
            note=f"Cancelled: {reason}",
            why=reason,
            most=PORTION,
            signum=signum,
            killed=killed if signum else (),
        )
        if rows:
            tasks_cancelled.send_robust(
                sender=DurableTask,
                tasks=[[str(row.id), str(row.status)] for row in rows],
                reason=reason[:500],
                who=current_actor() if who is None else who,
            )
    return rows


def _cancel_portion(ids: Sequence[UUID], *, reason: str, signum: int | None) -> int:
    if signum is None:
        return len(end(ids, reason=reason, signum=None))
    ended: list[Revoked] = []
    if connection.features.has_select_for_update_skip_locked or connection.in_atomic_block:
        ended = end(ids, reason=reason, signum=signum)
    # Otherwise a body that runs in a transaction would keep all others from writing, so its process is told first.
    fenced = [row.id for row in ended if row.status == Status.RUNNING]
    rest = dict(_unended(set(ids) - {row.id for row in ended}))
    told = [*fenced, *(id for id, status in rest.items() if status != Status.PENDING)]
    terminated = 0

    def terminate() -> None:
        nonlocal terminated
        if told:
            processes.tell_all(told, reason=reason, signum=signum)
        terminated = _end_patiently(list(rest), reason=reason, signum=signum)

    if told or rest:
        on_commit(terminate)  # Immediately, if there is no transaction.
    return len(ended) + terminated


def _end_patiently(ids: Sequence[UUID], *, reason: str, signum: int, patience: float | None = None) -> int:
    """
    End rows once their process has exited as instructed; return how many did not end on their own.

    Both the caller and the worker do this, in either order.
    """
    rest, until = list(ids), time.monotonic() + (PATIENCE if patience is None else patience)
    while rest:
        try:
            end(rest, reason=reason, signum=signum, killed=HELD)
            rest = [id for id, _ in _unended(rest)]
        except OperationalError:
            if connection.vendor != "sqlite":
                raise
            logger.info("%d tasks cannot be stopped yet: their rows are locked.", len(rest))
        if time.monotonic() > until:
            break
        if rest:
            time.sleep(PAUSE)
    return DurableTask.objects.filter(id__in=ids, status=Status.CANCELLED).count()


def _unended(ids: Collection[UUID]) -> QuerySet[DurableTask, tuple[UUID, str]]:
    return DurableTask.objects.filter(id__in=ids, status__in=UNENDED).values_list("id", "status")
