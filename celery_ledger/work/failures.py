"""Records a failed attempt: schedules the next one or parks the row as dead, and stores the error and the result."""

import logging
from datetime import datetime
from typing import Any

from celery.exceptions import Reject, Retry

from celery_ledger.context import working_on
from celery_ledger.databases import atomic
from celery_ledger.errors import PermanentError, RetryOtherwise, WorkerDiedError
from celery_ledger.patience import persist
from celery_ledger.rows import attempts, following, ledger, results
from celery_ledger.rows.results import Outcome
from celery_ledger.rows.wording import exc_info_of, traceback_of, words_of
from celery_ledger.work.backends import is_kept
from celery_ledger.work.runnable import Runnable

logger = logging.getLogger(__name__)


def record(task: Runnable, row: ledger.Started, error: Exception, *, counted: bool, request: Any) -> str | None:
    """
    Record a failed attempt, waiting for the database if it is away, and return the row's new state in Celery's terms.

    ``counted`` means that the row's attempt counter already includes this attempt; ``request`` is passed to errbacks.
    Returns None if another worker has taken over the row.
    """
    asked = _asked(task, row, error)
    cause = error.exc if isinstance(error, Retry) and error.exc is not None else error
    dead = not _is_retried(task, error, cause) or _is_used_up(task, row, error, asked)
    delay = _delay(task, row, error)
    trace, told = traceback_of(error), words_of(cause)
    state: str = results.FAILURE if dead else results.RETRY

    def write() -> bool:
        with atomic():
            if not ledger.fail(row, told, dead=dead, delay=delay, counted=counted, asked=asked):
                return False
            kept = is_kept(task, row.options, failed=True)
            results.record([Outcome(row.id, state, cause, trace, is_kept=kept, is_own=task.has_own_results)])
            attempts.record_failure(row, told, trace)
            if dead:
                following.failed(task.app, row, request, cause, trace)
            return True

    if not persist(write):
        logger.warning("%s %s failed, but it was cancelled or taken over meanwhile: %s", row.name, row.id, told)
        return None
    with working_on(request_id=row.request_id, subject=row.subject):
        logger.log(
            logging.INFO if isinstance(cause, tuple(task.throws)) else logging.WARNING,
            "%s %s failed at attempt %d and %s: %s",
            row.name,
            row.id,
            row.attempts,
            "is dead" if dead else f"is due again in {delay:.1f} s",
            told,
            exc_info=None if dead or isinstance(cause, tuple(task.throws)) else exc_info_of(cause),
        )
    return state


def _is_retried(task: Runnable, error: Exception, cause: BaseException) -> bool:
    """Whether an attempt that failed with this error is retried, if any attempts are left."""
    if isinstance(error, WorkerDiedError):
        return task.acks_late
    if isinstance(error, Reject):
        return bool(error.requeue)
    if isinstance(cause, (PermanentError, *task.dont_autoretry_for)):
        return False
    return isinstance(error, Retry) or task.retries is not None


def _is_used_up(task: Runnable, row: ledger.Started, error: Exception, asked: ledger.Asked) -> bool:
    most = task.most_starts if isinstance(error, WorkerDiedError) else task.max_attempts
    limit = asked.more_attempts or row.attempt_limit or asked.attempt_limit or most
    return limit is not None and row.attempts >= limit


def _asked(task: Runnable, row: ledger.Started, error: Exception) -> ledger.Asked:
    """
    Return what a task's ``retry()`` call specified besides a delay. An ``eta`` follows the database's clock.

    Being requeued by ``Reject(requeue=True)`` does not count as a retry.
    """
    if isinstance(error, Reject):
        limit = row.attempt_limit or task.max_attempts
        return ledger.Asked(more_attempts=None if limit is None else limit + 1)
    at = error.when if isinstance(error, Retry) and isinstance(error.when, datetime) else None
    if not isinstance(error, RetryOtherwise):
        return ledger.Asked(at=at)
    changed = dict(error.new_options)
    if "options" in changed:
        changed["options"] = {**(row.options or {}), **changed["options"]}
    return ledger.Asked(at, error.new_args, error.new_kwargs, error.attempt_limit, **changed)


def _delay(task: Runnable, row: ledger.Started, error: Exception) -> float:
    """Return the seconds until the next attempt, as requested by the task or computed by its backoff."""
    if isinstance(error, Retry) and error.when is not None:
        if isinstance(error.when, datetime):
            return max(0.0, error.when.timestamp() - datetime.now().timestamp())
        return float(error.when)
    return task.pause_after(row.attempts)
