"""
Results for a backend of the project's own: Redis, files, or whatever ``result_backend`` names.

Stored once the attempt is committed, as Celery stores them once a task has ended: what can be read has happened.
Those of django-celery-results are written in the transaction itself; see :mod:`celery_ledger.rows.results`.
"""

import logging
from typing import Any

from celery import states
from celery.backends.base import DisabledBackend

from celery_ledger.rows import results
from celery_ledger.work.runnable import Runnable

logger = logging.getLogger(__name__)


def store(task: Runnable, request: Any, state: str, value: Any, traceback: str | None = None) -> None:
    """Store how an attempt ended, or that it began, where the project keeps results and the task has any."""
    if task.ignore_result:
        return
    backend = task.backend
    if isinstance(backend, DisabledBackend) or _is_written_by_the_ledger(backend):
        return
    try:
        if state in states.EXCEPTION_STATES:
            value = backend.prepare_exception(value)
        backend.store_result(request.id, value, state, traceback=traceback, request=request)
    except Exception:
        logger.exception("The result of %s %s cannot be stored by %r.", task.name, request.id, backend)


def _is_written_by_the_ledger(backend: Any) -> bool:
    return results.are_kept() and type(backend).__module__.startswith("django_celery_results")
