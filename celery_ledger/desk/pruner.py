"""
Deletes rows that the ledger no longer needs. Dead tasks are kept until an operator decides.

A task about an object that was given up leaves a record behind (:class:`celery_ledger.models.Forgone`), because the
audit of promises asks for it for as long as the object exists.
"""

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.utils import timezone

from celery_ledger import conf
from celery_ledger.databases import atomic, connection
from celery_ledger.ids import row_id
from celery_ledger.models import Chord, DurableTask, FailedAttempt, Forgone, KeptGroup, LargeResult, Part, Result, Step
from celery_ledger.redeliveries import REDELIVERIES
from celery_ledger.rows import following, results
from celery_ledger.rows.sql import statements
from celery_ledger.uuid7 import first_uuid7_at

Status = DurableTask.Status
#: Size of the first portion, and the smallest and largest size of any.
FIRST, FEWEST, MOST = 500, 50, 4_000
#: How long a portion should hold its locks, in seconds; its size is adapted to how long the last ones took.
AIM = 0.01
#: How often a relay looks for rows to prune, in seconds.
INTERVAL = 600.0
#: How long a relay prunes before it publishes again, and how long it then publishes, in seconds. A quarter of the time
#: keeps up with any rate at which rows can be added, and is over soon for what is due meanwhile.
MOMENT, PAUSE = 0.02, 0.06
#: How many canvases one portion covers.
MOST_CANVASES = 50
#: Where ids without a time in them begin: those that callers chose.
AHEAD = timedelta(days=1)
FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


def prune(*, older_than: timedelta) -> int:
    """
    Delete tasks that succeeded or were cancelled over ``older_than`` ago, with their results; return how many.

    In small transactions, oldest first, so that no other transaction waits long for a lock.
    """
    deleted = sum(portions(older_than=older_than))
    prune_canvases(older_than=older_than)
    return deleted


def count(*, older_than: timedelta) -> int:
    """Return how many tasks :func:`prune` would delete now."""
    now = timezone.now()
    ended = DurableTask.objects.filter(
        status__in=[Status.SUCCEEDED, Status.CANCELLED], completed_at__lt=now - older_than
    )
    return sum(ended.filter(id__gt=after, id__lte=until).count() for after, until in _ranges(now, older_than))


def portions(*, older_than: timedelta, alone: bool = False) -> Iterator[int]:
    """
    Prune as :func:`prune` does, in portions, and yield the number of tasks in each.

    Along the primary key, which needs no index of its own: ids begin with the time. Ids that callers chose
    themselves do not; those are visited afterwards. With ``alone``, this ends at once if another such process is
    already pruning.
    """
    now = timezone.now()
    cutoff = now - older_than
    size = FIRST
    for after, until in _ranges(now, older_than):
        while True:
            begun = time.monotonic()
            deleted, last = _delete(after, until, cutoff, size, alone=alone)
            if not deleted or last is None:
                break
            after = last
            size = _size_after(deleted, time.monotonic() - begun)
            yield deleted


def _ranges(now: datetime, older_than: timedelta) -> tuple[tuple[UUID, UUID], ...]:
    """Return the id ranges of tasks that are old enough, and the ids that callers chose."""
    return (FIRST_ID, first_uuid7_at(now - older_than)), (first_uuid7_at(now + AHEAD), LAST_ID)


def prune_canvases(*, older_than: timedelta) -> None:
    """Delete canvases called over ``older_than`` ago that have no rows left, and groups saved then."""
    cutoff = timezone.now() - older_than
    while _delete_canvases(first_uuid7_at(cutoff)):
        pass
    KeptGroup.objects.filter(saved_at__lt=cutoff).delete()


def _delete_canvases(until: UUID) -> int:
    """Delete some canvases called before ``until`` that have no rows left; return how many."""
    with_rows = DurableTask.objects.filter(canvas=OuterRef("canvas"))
    found: set[UUID] = set()
    for kept in (Step, Chord, LargeResult):
        old = kept.objects.filter(~Exists(with_rows), canvas__lt=until)
        found.update(old.values_list("canvas", flat=True).distinct().order_by("canvas")[:MOST_CANVASES])
    if not found:
        return 0
    with atomic():
        chords = Chord.objects.filter(canvas__in=found)
        texts = [*chords.values_list("body", flat=True)]
        texts += Step.objects.filter(canvas__in=found).values_list("signature", flat=True)
        ids = [id for text in texts for id in following.ids_of(json.loads(text))]
        for start in range(0, len(ids), MOST):
            portion = ids[start : start + MOST]
            Result.objects.filter(id__in=[row_id(id) for id in portion])._raw_delete(connection.alias)
            if results.are_kept():
                results.of_calls(portion).delete()
        Part.objects.filter(chord__in=chords.values("id"))._raw_delete(connection.alias)
        chords._raw_delete(connection.alias)
        Step.objects.filter(canvas__in=found)._raw_delete(connection.alias)
        LargeResult.objects.filter(canvas__in=found)._raw_delete(connection.alias)
    return len(found)


class Pruning:
    """
    The relays' pruning, by one relay at a time and for a moment: see :mod:`celery_ledger.relay.rounds`.

    So no project needs to schedule it.
    """

    def __init__(self) -> None:
        self._portions: Iterator[int] | None = None

    def make(self) -> float | None:
        """Prune for a moment, down to the retention time; return when to continue if more is left."""
        if self._portions is None:
            self._portions = portions(older_than=timedelta(days=conf.RETENTION_DAYS.value), alone=True)
        end = time.monotonic() + MOMENT
        for _ in self._portions:
            if time.monotonic() > end:
                return PAUSE
        if _delete_canvases(first_uuid7_at(timezone.now() - timedelta(days=conf.RETENTION_DAYS.value))):
            return PAUSE
        self._portions = None
        return None


#: The round of this process's relay: one object, because an app may be made ready more than once.
prune_for_a_moment = Pruning().make


def _size_after(count: int, seconds: float) -> int:
    """Return the size of the next portion: as many rows as fit the time target, at most twice this one."""
    fits = int(count * AIM / max(seconds, 0.001))
    return max(FEWEST, min(fits, 2 * count, MOST))


def _delete(after: UUID, until: UUID, cutoff: datetime, size: int, *, alone: bool) -> tuple[int, UUID | None]:
    """Delete a number of ended tasks between two ids in one transaction; return how many, and the last id."""
    known = statements(connection.vendor)
    sql = known.prune_results if results.are_kept() else known.prune
    if sql is None:
        return _delete_one_by_one(after, until, cutoff, size)
    with atomic(), connection.cursor() as cursor:
        # Along the primary key, whatever the statistics say: before they know that a million tasks have ended, the
        # planner would sort all of them for each portion.
        cursor.execute("SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true)")
        cursor.execute(sql, {"after": after, "until": until, "cutoff": cutoff, "size": size, "alone": alone})
        count, last = cursor.fetchone()
    return count, last


def _delete_one_by_one(after: UUID, until: UUID, cutoff: datetime, size: int) -> tuple[int, UUID | None]:
    """Delete as :func:`_delete` does, with one statement for each table."""
    ended = DurableTask.objects.filter(
        id__gt=after, id__lte=until, status__in=[Status.SUCCEEDED, Status.CANCELLED], completed_at__lt=cutoff
    )
    with atomic():
        rows = list(
            ended.order_by("id").values_list("id", "status", "name", "subject", "completed_at", "last_error")[:size]
        )
        if not rows:
            return 0, None
        ids = [row[0] for row in rows]
        _remember([row for row in rows if row[1] == Status.CANCELLED and row[3] is not None])
        for dependent in (
            *([results.of(ids)] if results.are_kept() else []),
            Result.objects.filter(id__in=ids),
            FailedAttempt.objects.filter(task__in=ids),
            DurableTask.objects.filter(id__in=ids),
        ):
            # No cascade and no signals: what depends on a task was deleted before it.
            dependent._raw_delete(dependent.db)
    return len(rows), ids[-1]


def _remember(cancelled: list[tuple[Any, ...]]) -> None:
    """Record, for each of these tasks, the effect that is no longer expected, and its subject."""
    if not cancelled:
        return
    redelivered = DurableTask.objects.filter(id__in=[row[0] for row in cancelled], name__in=REDELIVERIES)
    receivers = {id: kwargs.get("dispatch_uid", "") for id, kwargs in redelivered.values_list("id", "kwargs")}
    Forgone.objects.bulk_create(
        Forgone(name=name, subject=subject, receiver=receivers.get(id, ""), forgone_at=ended_at, reason=reason[:500])
        for id, _, name, subject, ended_at, reason in cancelled
    )
