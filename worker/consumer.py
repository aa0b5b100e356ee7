"""
What a worker does with a message: run the ledger rows that it names, each exactly once.

Called by ``Task.__call__`` in a worker process. A message is only news: it carries ids, and what
runs is what the ledger says. Ids that are unknown, done, discarded or held by another worker are
passed over, so lost, doubled, late and forged messages have no effect.

Effects in the database share one transaction with the row's success. For effects outside it the row
is claimed under a lease, renewed while the body runs; what remains is the moment between the effect
and its record, in which a crash causes a second run.
"""

import logging
import socket
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING
from uuid import UUID

from celery.exceptions import NotRegistered, Retry
from django.conf import settings
from django.db import close_old_connections, connection, transaction

from worker import attempts, backoff, ledger, results
from worker.context import working_on
from worker.errors import PermanentError
from worker.events import tasks_settled
from worker.faults import crash_point
from worker.outbox import collecting
from worker.results import Outcome

if TYPE_CHECKING:
    from worker.task import Task

logger = logging.getLogger(__name__)
#: A line for every task that is done: for machines, and so on only where the logs are.
done_logger = logging.getLogger("worker.done")

#: A task that this process does not know, as during a deploy, is due again after so long at the most, in seconds.
UNKNOWN_DELAY = 2.0
#: The database may still be busy with a statement of the process that died: it is waited for so long, in seconds.
LOST_PATIENCE = 2


@dataclass
class Tally:
    """What became of a message's rows."""

    passed_over: int
    succeeded: int = 0
    failed: int = 0
    #: What the rows that ended or failed were about.
    subjects: set[str | None] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.succeeded} succeeded, {self.failed} failed, {self.passed_over} passed over"


def consume(task: "Task", ids: Sequence[str]) -> str:
    """
    Run the rows that a message names and return a line that says what became of them.

    Raises:
        ValueError: the message is not one of the relay's.
    """
    row_ids = [UUID(id) for id in ids]
    _discard_broken_connection()
    tally = Tally(passed_over=len(row_ids))
    if task.transactional:
        _run_inside(task, row_ids, tally)
    else:
        for id in row_ids:
            _run_outside(task, id, tally)
    if subjects := tally.subjects - {None}:
        tasks_settled.send_robust(sender=None, subjects=subjects)
    return str(tally)


def count_lost(task: "Task", ids: Sequence[str], reason: str) -> None:
    """
    Record that the process that ran this message died: called by the worker's parent process.

    One row: that was the one, and its attempt counts. Several: it may have been any, so each runs
    alone from now on, counted before it starts.

    Raises:
        OperationalError: the rows are still held; they come back when their lease ends.
    """
    row_ids = [UUID(id) for id in ids]
    _discard_broken_connection()
    with transaction.atomic():
        ledger.wait_for_locks(LOST_PATIENCE)
        if len(row_ids) > 1:
            ledger.suspect(row_ids)
            return
        for row in ledger.in_flight(row_ids):
            _record_failure(task, row, WorkerDiedError(reason), counted=row.counted)


def leave(ids: Sequence[UUID], reason: str) -> None:
    """Give rows back that this process cannot run, for one that can; no attempt is counted."""
    left = ledger.postpone(ids, delay=backoff.jittered(UNKNOWN_DELAY))
    logger.warning("%d tasks are left to a worker that knows them: %s", left, reason)


class UnknownTaskError(Exception):
    """This process has no such task, being older or newer than whoever enqueued it; or the message is forged."""


class WorkerDiedError(Exception):
    """The process that ran the task was killed: out of memory, a crash in C, a time limit, an operator."""


# --- Effects in the database ------------------------------------------------------------


def _run_inside(task: "Task", row_ids: Sequence[UUID], tally: Tally) -> None:
    """Run rows whose effects are in the database: together, and if that fails or must not be, one by one."""
    if len(row_ids) == 1 or not _run_together(task, row_ids, tally):
        for id in row_ids:
            _run_alone(task, id, tally)
    if tally.passed_over:
        for id in ledger.suspects_among(row_ids):
            _run_suspect(task, id, tally)


def _run_together(task: "Task", ids: Sequence[UUID], tally: Tally) -> bool:
    """Run all rows in one transaction. False: they failed together and are as they were."""
    try:
        with transaction.atomic():
            started = ledger.complete(ids)
            crash_point("consumer.before_effect")
            outcomes = []
            for name, rows in groupby(sorted(started, key=lambda row: row.name), key=lambda row: row.name):
                outcomes += _run_bodies(_task_named(task, name), list(rows))
            results.record(outcomes)
            crash_point("consumer.before_commit")
    except Exception as error:  # noqa: BLE001 - whatever it was, each row is run again and judged alone
        logger.warning("A batch of %d rows of %s failed and is run row by row: %r", len(ids), task.name, error)
        return False
    crash_point("consumer.after_commit")
    _say_done(started)
    tally.succeeded += len(started)
    tally.subjects.update(row.subject for row in started)
    tally.passed_over -= len(started)
    return True


def _run_alone(task: "Task", id: UUID, tally: Tally, *, suspect: bool = False) -> None:
    """Run one row in a transaction of its own; if it fails, record that."""
    started: list[ledger.Started] = []
    try:
        with transaction.atomic():
            started = ledger.complete([id], suspects=suspect)
            crash_point("consumer.before_effect")
            for row in started:
                results.record(_run_bodies(_task_named(task, row.name), [row]))
            crash_point("consumer.before_commit")
    except UnknownTaskError as error:
        leave([id], str(error))
    except Exception as error:
        if not started:
            raise
        tally.failed += 1
        tally.passed_over -= 1
        tally.subjects.add(started[0].subject)
        _record_failure(task.app.tasks[started[0].name], started[0], error, counted=suspect)
    else:
        crash_point("consumer.after_commit")
        _say_done(started)
        tally.succeeded += len(started)
        tally.subjects.update(row.subject for row in started)
        tally.passed_over -= len(started)


def _run_suspect(task: "Task", id: UUID, tally: Tally) -> None:
    """Run a row that may have killed its worker: alone, and counted before it starts."""
    try:
        row = ledger.count_attempt(id, limit_of=_limit_of(task))
    except ledger.AttemptsUsedUpError as error:
        tally.failed += 1
        tally.passed_over -= 1
        _record_failure(task.app.tasks[error.row.name], error.row, error, counted=True)
        return
    except UnknownTaskError as error:
        leave([id], str(error))
        return
    if row is not None:
        _run_alone(task, id, tally, suspect=True)


def _run_bodies(task: "Task", rows: list[ledger.Started]) -> list[Outcome]:
    """Run a task's body for its rows, as one batch where it takes one, and return their outcomes."""
    if task.batch_size > 1:
        with _as_current(task, rows), collecting():
            task.run([row.args[0] for row in rows])
        return [Outcome(row.id, results.SUCCESS) for row in rows]
    outcomes = []
    for row in rows:
        with _as_current(task, [row]), collecting():
            outcomes.append(Outcome(row.id, results.SUCCESS, task.run(*row.args, **row.kwargs)))
    return outcomes


# --- Effects outside the database -------------------------------------------------------


def _run_outside(task: "Task", id: UUID, tally: Tally) -> None:
    """Claim one row under a lease, run its body outside any transaction, record what came of it."""
    lease = settings.LEDGER_RUNNING_LEASE
    try:
        row = ledger.start(id, lease=lease, limit_of=_limit_of(task))
    except ledger.AttemptsUsedUpError as error:
        tally.failed += 1
        tally.passed_over -= 1
        _record_failure(task, error.row, error, counted=True)
        return
    except UnknownTaskError as error:
        leave([id], str(error))
        return
    if row is None:
        return
    task = _task_named(task, row.name)
    tally.passed_over -= 1
    tally.subjects.add(row.subject)
    try:
        crash_point("consumer.before_effect")
        with LeaseKeeper(row, lease), _as_current(task, [row]):
            value = task.run(*row.args, **row.kwargs)
        crash_point("consumer.after_effect")
    except Exception as error:  # noqa: BLE001 - whatever it was, the ledger records it
        tally.failed += 1
        _record_failure(task, row, error, counted=True)
    else:
        with transaction.atomic():
            if ledger.finish(row):
                results.record([Outcome(row.id, results.SUCCESS, value)])
        _say_done([row])
        tally.succeeded += 1


class LeaseKeeper:
    """
    Renews a claim while its body runs, from a thread, so that the lease can be short.

    The thread opens a database connection only if the body is still running after a third of the
    lease. A stopped process renews nothing: its work is taken over, and fenced off when it wakes.
    """

    def __init__(self, row: ledger.Started, lease: float) -> None:
        self.row = row
        self.lease = lease
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {row.id}", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _renew(self) -> None:
        try:
            while not self._done.wait(self.lease / 3):
                if not ledger.renew(self.row, lease=self.lease):
                    logger.warning("The claim on %s %s was lost to another worker.", self.row.name, self.row.id)
                    return
        except Exception:
            logger.exception("The claim on %s %s could not be renewed.", self.row.name, self.row.id)
        finally:
            connection.close()


# --- Shared -----------------------------------------------------------------------------


@contextmanager
def _as_current(task: "Task", rows: Sequence[ledger.Started]) -> Iterator[None]:
    """
    Make the first row's id and attempts visible to the body as ``self.request``, and its story as context.

    What a batch enqueues belongs to the story of all its rows only if they share one.
    """
    row = rows[0]
    request_ids, subjects = {row.request_id for row in rows}, {row.subject for row in rows}
    task.push_request(
        id=str(row.id),
        root_id=str(row.id),
        args=row.args,
        kwargs=row.kwargs,
        retries=row.attempts - 1,
        called_directly=True,
        hostname=socket.gethostname(),
    )
    try:
        with working_on(
            request_id=row.request_id if len(request_ids) == 1 else None,
            subject=row.subject if len(subjects) == 1 else None,
        ):
            yield
    finally:
        task.pop_request()


def _task_named(task: "Task", name: str) -> "Task":
    """Return the task that a row names, if a message of ``task`` may carry it."""
    try:
        named: Task = task.app.tasks[name]
    except NotRegistered:
        raise UnknownTaskError(f"there is no task {name} here") from None
    if named.transactional != task.transactional:
        raise UnknownTaskError(f"no message of {task.name} carries {name}")
    return named


def _say_done(rows: Sequence[ledger.Started]) -> None:
    if done_logger.isEnabledFor(logging.INFO):
        for row in rows:
            with working_on(request_id=row.request_id, subject=row.subject):
                data = {"task": row.name, "id": str(row.id), "attempt": row.attempts}
                done_logger.info("task succeeded", extra={"data": data})


def _limit_of(task: "Task") -> ledger.LimitOf:
    """Return the function that says how often a task of a name may be started."""

    def limit_of(name: str) -> int | None:
        limit: int | None = _task_named(task, name).max_attempts
        return limit

    return limit_of


def _record_failure(task: "Task", row: ledger.Started, error: Exception, *, counted: bool) -> None:
    limit = row.attempt_limit or task.max_attempts
    cause = error.exc if isinstance(error, Retry) and error.exc is not None else error
    dead = isinstance(cause, (PermanentError, *task.dont_autoretry_for)) or (
        limit is not None and row.attempts >= limit
    )
    delay = _delay(task, row, error)
    trace = _storable("".join(traceback.format_exception(error)))
    told = _storable(f"{type(cause).__name__}: {cause}")
    with transaction.atomic():
        if not ledger.fail(row, told, dead=dead, delay=delay, counted=counted):
            logger.warning("%s %s failed, but it was taken over meanwhile: %r", row.name, row.id, cause)
            return
        results.record([Outcome(row.id, results.FAILURE if dead else results.RETRY, cause, trace)])
        attempts.record_failure(row, told, trace)
    with working_on(request_id=row.request_id, subject=row.subject):
        logger.log(
            logging.ERROR if dead else logging.WARNING,
            "%s %s failed at attempt %d and %s: %r",
            row.name,
            row.id,
            row.attempts,
            "is dead" if dead else f"is due again in {delay:.1f} s",
            cause,
            exc_info=cause,
        )


def _storable(text: str) -> str:
    """Return ``text`` as PostgreSQL can keep it: an error that cannot be recorded would run for ever."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _delay(task: "Task", row: ledger.Started, error: Exception) -> float:
    """Return the seconds until the next attempt: what the task asked for, or the backoff's."""
    if isinstance(error, Retry) and error.when is not None:
        if isinstance(error.when, datetime):
            return max(0.0, error.when.timestamp() - datetime.now().timestamp())
        return float(error.when)
    delay = backoff.exponential(row.attempts, base=float(task.retry_backoff), ceiling=task.retry_backoff_max)
    return backoff.jittered(delay) if task.retry_jitter else delay


def _discard_broken_connection() -> None:
    """Drop a database connection that broke or outlived its time; Celery is told to keep them open."""
    if not connection.in_atomic_block:
        close_old_connections()
