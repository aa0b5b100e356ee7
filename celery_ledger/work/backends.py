"""
Writes to the result backend: that a task has started, what it reports while it runs, and how it ended.

A project's own backend (Redis, files, or whatever ``result_backend`` names) receives the outcome once the attempt is
committed, as Celery stores it once a task has ended: every stored result has really happened. The results of
django-celery-results and of the ledger itself are written in the transaction; see :mod:`celery_ledger.rows.results`.

Reports of a running body must be readable immediately, so they bypass the open transaction: a thread with a separate
connection writes them. SQLite has one writer at a time; there, such reports are dropped while a transaction is open.
"""

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from celery import states
from celery.backends.base import DisabledBackend
from django.db import close_old_connections

from celery_ledger.databases import connection
from celery_ledger.ids import row_id
from celery_ledger.project import is_in_the_database
from celery_ledger.rows import results
from celery_ledger.work.runnable import Runnable

logger = logging.getLogger(__name__)

#: The thread through which this process bypasses transactions.
_threads: dict[int, ThreadPoolExecutor] = {}


def is_kept(task: Runnable, options: Mapping[str, Any] | None, *, failed: bool = False) -> bool:
    """Whether to keep the result of a call, according to its task and to the call's own ``options``."""
    is_ignored = task.ignore_result or bool(options and options.get("ignore_result"))
    return not is_ignored or (failed and task.store_errors_even_if_ignored)


def store(task: Runnable, request: Any, state: str, value: Any, traceback: str | None = None) -> None:
    """Store how an attempt ended, or that it started, if the project keeps results and the task has any."""
    if not is_kept(task, {"ignore_result": request.ignore_result}, failed=state in states.EXCEPTION_STATES):
        return
    backend = task.backend
    try:
        if state == states.STARTED:
            say(backend, request, request.id, state, value)
        elif not isinstance(backend, DisabledBackend) and not _is_written_by_the_ledger(backend):
            if state in states.EXCEPTION_STATES:
                value = backend.prepare_exception(value)
            backend.store_result(request.id, value, state, traceback=traceback, request=request)
    except Exception:
        logger.exception("The result of %s %s cannot be stored by %r.", task.name, request.id, backend)


def say(backend: Any, request: Any, id: str, state: str, value: Any, **options: Any) -> None:
    """Store what a running task reports, readable immediately. Errors of the backend propagate."""
    if getattr(backend, "is_the_ledgers", False):
        _around_the_transaction(lambda: results.say(row_id(id), state, value))
    elif is_in_the_database(backend):
        _around_the_transaction(lambda: backend.store_result(id, value, state, request=request, **options))
    else:
        backend.store_result(id, value, state, request=request, **options)


def _around_the_transaction(write: Callable[[], Any]) -> None:
    if not connection.in_atomic_block:
        write()
    elif connection.vendor == "sqlite":
        logger.debug("What a task says within its transaction cannot be read before the end, on SQLite.")
    else:
        if os.getpid() not in _threads:  # Threads are not forked.
            _threads[os.getpid()] = ThreadPoolExecutor(1, "around-transactions")
        _threads[os.getpid()].submit(copy_context().run, _on_a_connection_that_works, write).result()


def _on_a_connection_that_works(write: Callable[[], Any]) -> None:
    close_old_connections()
    try:
        write()
    finally:
        close_old_connections()


def _is_written_by_the_ledger(backend: Any) -> bool:
    return is_in_the_database(backend) or getattr(backend, "is_the_ledgers", False)
