"""
A worker's log, row by row: in Celery's wording and through its loggers, so that log-based tools see each row.

A message of a batched task gets a single line: a line for each of hundreds of rows would cost more than the rows do.
"""

import logging
from typing import Any

from celery.app import trace

from celery_ledger.rows import ledger
from celery_ledger.rows.wording import shown
from celery_ledger.work.runnable import Runnable

#: The name of the logger with which Celery reports received tasks.
_received = logging.getLogger("celery.worker.strategy")
#: Tasks whose messages carry no rows, or rows of several batches.
_OF_MESSAGES = frozenset(("celery_ledger.tasks.run_mixed", "celery_ledger.tasks.see_canary"))
#: Longest return value that is shown, in characters.
MOST_SHOWN = 1_024


def level_of_messages(task: Any) -> int:
    """Return the level at which a worker logs a message: INFO only if its rows are not logged individually."""
    return logging.INFO if task.batch_size > 1 or task.name in _OF_MESSAGES else logging.DEBUG


def received(task: Runnable, row: ledger.Started, request: Any) -> None:
    """Log that the body is about to run."""
    if task.batch_size == 1 and _received.isEnabledFor(logging.INFO):
        told = _about(row, request) | {"eta": request.eta}
        _received.info(trace.LOG_RECEIVED, told, extra={"data": told})


def succeeded(task: Runnable, row: ledger.Started, request: Any, value: Any, runtime: float) -> None:
    """Log the return value of the body."""
    if task.batch_size == 1 and trace.logger.isEnabledFor(logging.INFO):
        trace.info(
            trace.LOG_SUCCESS, _about(row, request) | {"return_value": shown(value)[:MOST_SHOWN], "runtime": runtime}
        )


def ended(row: ledger.Started, request: Any, form: str, description: str) -> None:
    """Log that the attempt was ignored or rejected."""
    trace.info(form, _about(row, request) | {"description": description, "exc": description})


def is_due_again(row: ledger.Started, request: Any, reason: BaseException) -> None:
    """Log that the row is retried."""
    trace.info(trace.LOG_RETRY, _about(row, request) | {"exc": shown(reason)})


def failed(task: Runnable, row: ledger.Started, request: Any, error: BaseException, info: Any) -> None:
    """Log that the row failed permanently; with a traceback, unless the task lists the error in its ``throws``."""
    is_expected = isinstance(error, tuple(task.throws))
    description = "raised expected" if is_expected else "raised unexpected"
    told = _about(row, request) | {"description": description, "exc": shown(error), "hostname": request.hostname}
    trace.logger.log(
        logging.INFO if is_expected else logging.ERROR,
        trace.LOG_FAILURE,
        told,
        # Billiard's form, which can be sent from one process to another.
        exc_info=None if is_expected else getattr(info, "exc_info", None),
        extra={"data": told},
    )


def _about(row: ledger.Started, request: Any) -> dict[str, Any]:
    """Return what is logged about a row; in place of its arguments, the text that its call specifies, or its id."""
    said = row.options or {}
    args, kwargs = said.get("argsrepr") or f"({request.id})", said.get("kwargsrepr") or "{}"
    return {"id": request.id, "name": request.task, "args": args, "kwargs": kwargs}
