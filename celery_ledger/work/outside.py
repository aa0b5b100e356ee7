"""
Rows whose effects are outside the database: claimed under a lease, run outside transactions, recorded with patience.

What remains is the moment between an effect and its record, in which a crash causes a second run. Recording one row
also starts the next row of its message.
"""

import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any
from uuid import UUID

from celery.exceptions import Ignore
from django.db import DatabaseError, InterfaceError, OperationalError

from celery_ledger import conf
from celery_ledger.databases import atomic
from celery_ledger.errors import PermanentError
from celery_ledger.faults import crash_point
from celery_ledger.patience import persist
from celery_ledger.rows import following, ledger, paces, results
from celery_ledger.rows.results import Finished
from celery_ledger.rows.taken import Wanted
from celery_ledger.rows.wording import words_of
from celery_ledger.work import bodies
from celery_ledger.work.concluding import Success, conclude
from celery_ledger.work.keeper import LeaseKeeper
from celery_ledger.work.leaving import UnknownTaskError, leave
from celery_ledger.work.limits import limits_of
from celery_ledger.work.runnable import Runnable
from celery_ledger.work.running import Outcomes, limit_of, outcome_of, task_named
from celery_ledger.work.slices import MOST_SLICES
from celery_ledger.work.telling import as_current

logger = logging.getLogger(__name__)


def run(task: Runnable, ids: Sequence[UUID], outcomes: Outcomes) -> None:
    """
    Run the rows of a message one after the other.

    Rows not started when the time of a few slices is up, or while a body takes long, go back to the ledger for any
    free worker: such rows share a message only because their task is usually quick.
    """
    began = monotonic()
    until = began + MOST_SLICES * conf.SLICE.value / 1000
    rest = list(ids)
    row: ledger.Started | None = None
    while rest or row is not None:
        if row is None:
            row = _start(task, rest.pop(0), outcomes)
        if row is not None:
            row, rest = _run_one(task, row, rest, outcomes, until=until)
        if rest and row is None and monotonic() > until:
            outcomes.handed_on += ledger.hand_on(rest)
            break
    if len(ids) > 1:
        paces.note_slice(task.name, len(ids) - len(rest), monotonic() - began)
        paces.note_rides([task.name])


def _start(task: Runnable, id: UUID, outcomes: Outcomes) -> ledger.Started | None:
    """Claim one row under a lease; None if it must not be run here and now."""
    lease = conf.RUNNING_LEASE.value
    if (row := ledger.start_named(id, task.name, lease=lease, limit=task.most_starts)) is not None:
        return row
    try:
        return ledger.start(id, lease=lease, limit_of=limit_of(task))
    except ledger.AttemptsUsedUpError as error:
        outcomes.fail(task.app.tasks[error.row.name], error.row, error, counted=True)
    except UnknownTaskError as error:
        leave([id], str(error))
    return None


def _run_one(
    message: Runnable, row: ledger.Started, behind: list[UUID], outcomes: Outcomes, *, until: float
) -> tuple[ledger.Started | None, list[UUID]]:
    """
    Run a claimed row's body outside any transaction and record the outcome.

    Return the row from ``behind`` that was claimed along with that, if any and only before ``until``; and those left.
    """
    task = task_named(message, row.name)
    keeper = LeaseKeeper(row, conf.RUNNING_LEASE.value, behind)
    try:
        crash_point("consumer.before_effect")
        telling = outcomes.telling(task, row)
        with keeper, as_current([telling]), limits_of(row), paces.measured(row.name):
            value = bodies.run(task, telling.request, *row.args, **row.kwargs)
        crash_point("consumer.after_effect")
    except Exception as error:  # noqa: BLE001 - whatever it was, the ledger records it
        outcomes.fail(task, row, error, counted=True)
    else:
        left = keeper.left
        then = _wanted(message, left[0] if left and monotonic() <= until else None)
        try:
            finished = persist(lambda: _finish(task, row, value, then))
            crash_point("consumer.after_record")
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # noqa: BLE001 - such as a value that is not JSON
            outcomes.fail(task, row, _unwritable(error), counted=True)
            return None, left
        if finished.is_held:
            outcomes.succeed(task, row, value)
        else:
            logger.warning("%s %s succeeded, but it was cancelled or taken over meanwhile.", row.name, row.id)
        if finished.started is not None:
            return finished.started, left[1:]
    return None, keeper.left


def _wanted(message: Runnable, id: UUID | None) -> Wanted:
    return Wanted(id, message.name, conf.RUNNING_LEASE.value, message.most_starts)


def _unwritable(error: Exception) -> PermanentError:
    """Return the error for a task whose effect has happened but whose consequences cannot be written: no retry."""
    unwritable = PermanentError(f"It ran, but what follows from it cannot be written: {words_of(error)}")
    unwritable.__cause__ = error
    return unwritable


def _finish(task: Runnable, row: ledger.Started, value: Any, then: Wanted) -> Finished:
    """Record a success with its result, or without it if it cannot be stored: the effect has happened."""
    try:
        if not isinstance(value, Ignore) and not following.calls_others(row):
            # Nothing else follows from it: see celery_ledger/work/concluding.py.
            part = following.part_of(row, value)
            finished = results.finish(outcome_of(task, row, value), row.attempts, then, part)
            if finished is not None:
                return finished
        with atomic():
            if not ledger.finish(row):
                return Finished(is_held=False)
            conclude([Success(task, row, outcome_of(task, row, value))])
            return Finished(is_held=True)
    except (OperationalError, InterfaceError):
        raise
    except DatabaseError:
        if following.is_followed(row):
            raise
        logger.exception("The result of %s %s cannot be stored; the task succeeded nevertheless.", row.name, row.id)
        return Finished(ledger.finish(row))
