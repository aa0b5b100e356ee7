"""
Ends of tasks of which no worker's process tells the project's result backend: what was revoked, expired or given up.

It is told after the commit, by a thread: a backend that is away holds up no relay and no request.
"""

import logging
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from celery.app.task import Context
from django.db import transaction

from celery_ledger.ids import call_id
from celery_ledger.models import DurableTask

logger = logging.getLogger(__name__)

#: A state of Celery's, and the error that goes with it.
End = tuple[str, BaseException]


def tell_later(app: Any, ends: Mapping[UUID, End]) -> None:
    """Have the backend of ``app`` told how tasks ended, once the current transaction is committed."""
    known = DurableTask.objects.filter(id__in=ends).values_list("id", "name", "args", "kwargs", "options")
    requests = []
    for id, name, args, kwargs, options in known:
        about = {"id": call_id(id, options), "task": name, "args": args, "kwargs": kwargs}
        requests.append((Context({**(options or {}), **about}), *ends[id]))
    _tell_after_the_commit(app, requests)


def tell_of(app: Any, ends: Mapping[str, End]) -> None:
    """Do the same of tasks that have no rows, for they are steps of a canvas that can no longer run."""
    _tell_after_the_commit(app, [(Context(id=id), *end) for id, end in ends.items()])


def _tell_after_the_commit(app: Any, requests: list[tuple[Context, str, BaseException]]) -> None:
    thread = threading.Thread(target=_tell, args=(app, requests), name="ends of tasks")
    transaction.on_commit(partial(thread.start))


def _tell(app: Any, requests: list[tuple[Context, str, BaseException]]) -> None:
    """Tell the backend; if it does not take one of them, no more."""
    backend = app.backend
    try:
        for request, state, error in requests:
            task = app.tasks.get(getattr(request, "task", None))
            is_ignored = request.ignore_result or getattr(task, "ignore_result", False)
            if not is_ignored or getattr(task, "store_errors_even_if_ignored", False):
                backend.store_result(request.id, error, state, request=request)
    except Exception:
        logger.exception("How %d tasks ended cannot be stored by %r.", len(requests), backend)
