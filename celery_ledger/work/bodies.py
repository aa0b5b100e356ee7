"""
The call of a task's body: as Celery's tracer makes it, so that what is put around it there is around it here.

That is a ``__call__`` of a base class, or of a tool's such as sentry-sdk's, which looks for the tracer as well: of what
it does there, the part that joins a task to the trace of its caller is done here.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.app.trace import task_has_custom
from celery.exceptions import Ignore

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
    with _followed_by_sentry(task, request):
        try:
            value = body(*args, **kwargs)
        except Ignore as ignored:
            return ignored
    if request.retry_asked is not None:
        raise request.retry_asked
    return value


@contextmanager
def _followed_by_sentry(task: Runnable, request: Any) -> Iterator[None]:
    """Have sentry-sdk, where the project has it follow Celery's tasks, join this one to its caller's trace."""
    sentry = sys.modules.get("sentry_sdk")
    if sentry is None or sentry.get_client().get_integration("celery") is None:
        yield
        return
    with sentry.isolation_scope() as scope:
        scope.clear_breadcrumbs()
        scope.set_tag("celery_task_id", request.id)
        caller = sentry.continue_trace(
            request.headers, op="queue.task.celery", name=task.name, source="task", origin="auto.queue.celery"
        )
        with sentry.start_transaction(caller):
            yield
