"""
The call of a task's body: as Celery's tracer makes it, so that what is put around it there is around it here.

That is a ``__call__`` of a base class, or of a tool's such as sentry-sdk's, which looks for the tracer as well: of what
it does there, the part that joins a task to the trace of its caller is in :mod:`celery_ledger.work.tracing`.
"""

from typing import Any

from celery.app.trace import task_has_custom
from celery.exceptions import Ignore

from celery_ledger.work import tracing
from celery_ledger.work.runnable import Runnable


def run(task: Runnable, request: Any, /, *args: Any, **kwargs: Any) -> Any:
    """
    Call the body of ``task`` for the row of ``request``, which is the current one, and return what it returns.

    A body that raises ``Ignore`` has not failed, and what it did stands: that is what is returned.

    Raises what the body raises, and ``Retry`` where it asked for that by ``self.retry(throw=False)`` and went on.
    """
    request.retry_asked = None
    request._protected = 0  # Else a call after one that failed would not be taken for the worker's.
    body: Any = task if task_has_custom(task, "__call__") else task.run
    with tracing.followed_by_sentry(task, request):
        try:
            value = body(*args, **kwargs)
        except Ignore as ignored:
            return ignored
        if request.retry_asked is not None:
            raise request.retry_asked
    return value
