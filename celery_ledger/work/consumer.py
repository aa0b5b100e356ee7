"""
How a worker handles a message: it runs the ledger rows that the message names, each exactly once.

Called by ``Task.__call__`` in a worker process. A message is only an announcement: it carries ids, and the ledger
determines what runs. Ids that are unknown, done, discarded or held by another worker are passed over, so lost,
duplicate, late and forged messages have no effect.

Effects in the database share one transaction with the row's success. For effects outside it, the row is claimed
under a lease that is renewed while the body runs; what remains is the moment between the effect and its record,
in which a crash causes a second run.
"""

import logging
from collections.abc import Sequence
from time import sleep
from uuid import UUID

from celery_ledger.databases import atomic, keep_connections
from celery_ledger.errors import WorkerDiedError
from celery_ledger.events import tasks_settled
from celery_ledger.faults import crash_point
from celery_ledger.rows import ledger, paces
from celery_ledger.rows.outbox import collecting
from celery_ledger.work import bodies, outside, slices
from celery_ledger.work.carrying import parse_ids
from celery_ledger.work.concluding import Success, conclude
from celery_ledger.work.leaving import UnknownTaskError, leave
from celery_ledger.work.limits import limits_of
from celery_ledger.work.runnable import Runnable
from celery_ledger.work.running import Outcomes, limit_of, outcome_of, task_named
from celery_ledger.work.telling import as_current

logger = logging.getLogger(__name__)

#: The database may still be busy with a statement of the process that died: wait this many seconds for it.
LOST_PATIENCE = 2
#: The relay that marks a row as published may hold it for a moment. The worker with its message tries this often, with
#: a pause in seconds: if the row is held for longer, a different worker runs it.
LOOKS = 5
LOOK_AGAIN = 0.002


def consume(task: Runnable, ids: Sequence[str]) -> Outcomes:
    """
    Run the rows that a message names and return their outcomes.

    Raises:
        StrangeMessageError: the message is not one of the relay's.
    """
    row_ids = parse_ids(ids)
    keep_connections()
    outcomes = Outcomes(passed_over=len(row_ids))
    with outcomes.telling_of_all():
        if task.transactional:
            _run_inside(task, row_ids, outcomes)
        else:
            outside.run(task, row_ids, outcomes)
    paces.flush_if_due()
    if subjects := outcomes.subjects - {None}:
        tasks_settled.send_robust(sender=None, subjects=subjects)
    return outcomes


def count_lost(task: Runnable, ids: Sequence[str], reason: str, *, held_for: float = 0.0) -> Outcomes:
    """
    Record that the process that ran this message died, and return the outcomes of its rows.

    Called by the worker's parent process. Rows that were published again since the process took the message,
    ``held_for`` seconds ago, now belong to a different worker.

    A single row is the culprit, and its attempt counts. Of several rows in one transaction it may have been any, so
    each runs alone from now on, counted before it starts. Of several with outside effects it was the running row.

    Raises:
        OperationalError: the rows are still held; they come back when their lease ends.
    """
    row_ids = parse_ids(ids)
    keep_connections()
    outcomes = Outcomes(passed_over=len(row_ids))
    with atomic():
        ledger.wait_for_locks(LOST_PATIENCE)
        if len(row_ids) > 1 and task.transactional:
            ledger.suspect(row_ids, held_for=held_for)
        elif len(row_ids) > 1:
            _count_begun(task, row_ids, WorkerDiedError(reason), outcomes, held_for=held_for)
        else:
            for row in ledger.in_flight(row_ids, held_for=held_for):
                outcomes.fail(task, row, WorkerDiedError(reason), counted=row.counted)
    return outcomes


def give_back(task: Runnable, ids: Sequence[str], *, held_for: float = 0.0) -> Outcomes:
    """
    Record that the process that ran this message was killed to end one of its rows, which is already recorded.

    Called like :func:`count_lost`. The other rows come back at once, and their attempts do not count: their transaction
    was rolled back. An attempt with an effect outside the database counts: whether the effect happened is unknown.

    Raises:
        OperationalError: as in :func:`count_lost`.
    """
    row_ids = parse_ids(ids)
    keep_connections()
    outcomes = Outcomes(passed_over=len(row_ids))
    with atomic():
        ledger.wait_for_locks(LOST_PATIENCE)
        _count_begun(task, row_ids, WorkerDiedError("its process was told to end"), outcomes, held_for=held_for)
    return outcomes


def _count_begun(task: Runnable, ids: Sequence[UUID], error: Exception, outcomes: Outcomes, *, held_for: float) -> None:
    """Fail the row whose attempt is already counted, because it had started, and give the other rows back."""
    rows = ledger.in_flight(ids, held_for=held_for)
    for row in rows:
        if row.counted:
            outcomes.fail(task, row, error, counted=True)
    ledger.release([row.id for row in rows if not row.counted])


# --- Effects in the database ------------------------------------------------------------


def _run_inside(task: Runnable, row_ids: Sequence[UUID], outcomes: Outcomes) -> None:
    """Run rows whose effects are in the database: together, or one by one if that fails or is not allowed."""
    for id in slices.run(task, row_ids, outcomes):
        _run_alone(task, id, outcomes)
    for look in range(LOOKS):
        if outcomes.passed_over <= outcomes.handed_on:
            return
        left = ledger.passed_over(row_ids)
        for id in left.suspects:
            _run_suspect(task, id, outcomes)
        if not left.others:
            return
        if look:
            sleep(LOOK_AGAIN)
        for id in left.others:
            _run_alone(task, id, outcomes)


def _run_alone(task: Runnable, id: UUID, outcomes: Outcomes, *, suspect: bool = False) -> None:
    """Run one row in a separate transaction; if it fails, record the failure."""
    started: list[ledger.Started] = []
    successes: list[Success] = []
    try:
        with atomic():
            started = ledger.complete([id], suspects=suspect)
            crash_point("consumer.before_effect")
            for row in started:
                successes = _run_body(task_named(task, row.name), row, outcomes)
            crash_point("consumer.before_commit")
            conclude(successes)
    except UnknownTaskError as error:
        leave([id], str(error))
    except Exception as error:
        if not started:
            raise
        outcomes.fail(task.app.tasks[started[0].name], started[0], error, counted=suspect)
    else:
        crash_point("consumer.after_commit")
        _succeed(successes, outcomes)


def _run_suspect(task: Runnable, id: UUID, outcomes: Outcomes) -> None:
    """Run a row that may have killed its worker: alone, and counted before it starts."""
    try:
        row = ledger.count_attempt(id, limit_of=limit_of(task))
    except ledger.AttemptsUsedUpError as error:
        outcomes.fail(task.app.tasks[error.row.name], error.row, error, counted=True)
        return
    except UnknownTaskError as error:
        leave([id], str(error))
        return
    if row is not None:
        _run_alone(task, id, outcomes, suspect=True)


def _run_body(task: Runnable, row: ledger.Started, outcomes: Outcomes) -> list[Success]:
    """Run a task's body for one row, as a batch of one if the task takes batches, and return the outcome."""
    if task.batch_size > 1:
        return slices.run_batch(task, [row], outcomes)
    telling = outcomes.telling(task, row)
    with as_current([telling]), collecting(), limits_of(row):
        with paces.measured(row.name):
            value = bodies.run(task, telling.request, *row.args, **row.kwargs)
        return [Success(task, row, outcome_of(task, row, value))]


def _succeed(successes: Sequence[Success], outcomes: Outcomes) -> None:
    for success in successes:
        outcomes.succeed(success.task, success.row, success.outcome.value)
