"""
The call of a task's body: made as Celery's tracer makes it, so that wrappers around the body apply here, too.

Such a wrapper is a ``__call__`` of a base class or of a tool such as sentry-sdk, which also patches the tracer: of what
it does there, the part that joins a task to its caller's trace is in :mod:`celery_ledger.work.tracing`.
"""

from typing import Any

from celery.app.trace import task_has_custom
from celery.exceptions import Ignore

from celery_ledger.work import tracing
from celery_ledger.work.runnable import Runnable


def run(task: Runnable, request: Any, /, *args: Any, **kwargs: Any) -> Any:
    """
    Call the body of ``task`` for the row of ``request``, the current request, and return its return value.

    A body that raises ``Ignore`` has not failed, and its effects stand: the exception is returned.

    Raises any other exception of the body, and ``Retry`` if it called ``self.retry(throw=False)`` and went on.
    """
    request.retry_asked = None
    request._protected = 0  # Otherwise, a call after a failed one would not count as the worker's.
    body: Any = task if task_has_custom(task, "__call__") else task.run
    with tracing.followed_by_sentry(task, request):
        try:
            value = body(*args, **kwargs)
        except Ignore as ignored:
            return ignored
        if request.retry_asked is not None:
            raise request.retry_asked
    return value
