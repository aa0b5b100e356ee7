"""
Ends of tasks that no worker process reports: revoked, expired or discarded.

This tells the project's result backend and, about revoked tasks, listeners to events such as Flower. It happens after
the commit, in a thread, so that an unavailable backend or broker delays no relay and no request.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from celery.app.task import Context
from django.db import connections
from django.db.models.functions import Now

from celery_ledger.databases import on_commit
from celery_ledger.ids import call_id
from celery_ledger.models import DurableTask, Heartbeat

logger = logging.getLogger(__name__)

#: A Celery state, and the error that goes with it.
End = tuple[str, BaseException]
#: The remote-control command that makes a worker send events; see celery_ledger/desk/remote.py.
COMMAND = "ledger_revoked"
#: A worker that has been silent for longer is not asked.
SILENT_AFTER = timedelta(seconds=15)


def tell_later(app: Any, ends: Mapping[UUID, End]) -> None:
    """Report to the backend of ``app`` how tasks ended, once the current transaction is committed."""
    known = DurableTask.objects.filter(id__in=ends).values_list("id", "name", "args", "kwargs", "options")
    requests = []
    for id, name, args, kwargs, options in known:
        about = {"id": call_id(id, options), "task": name, "args": args, "kwargs": kwargs}
        requests.append((Context({**(options or {}), **about}), *ends[id]))
    _tell_after_the_commit(app, requests)


def tell_of(app: Any, ends: Mapping[str, End]) -> None:
    """Report the same for tasks without rows: steps of a canvas that can no longer run."""
    _tell_after_the_commit(app, [(Context(id=id), *end) for id, end in ends.items()])


def _tell_after_the_commit(app: Any, requests: list[tuple[Context, str, BaseException]]) -> None:
    thread = threading.Thread(target=_tell, args=(app, requests), name="ends of tasks")
    on_commit(partial(thread.start))


def _tell(app: Any, requests: list[tuple[Context, str, BaseException]]) -> None:
    """Report to the backend; stop at the first task that it refuses."""
    backend = app.backend
    try:
        for request, state, error in requests:
            task = app.tasks.get(getattr(request, "task", None))
            is_ignored = request.ignore_result or getattr(task, "ignore_result", False)
            if not is_ignored or getattr(task, "store_errors_even_if_ignored", False):
                backend.store_result(request.id, error, state, request=request)
    except Exception:
        logger.exception("How %d tasks ended cannot be stored by %r.", len(requests), backend)
    finally:
        connections.close_all()  # Those of this thread: a project's backend may keep results in its database.


def announce(app: Any, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Ask one worker to send events for revoked tasks, if it sends any: listeners know workers by name."""
    at_work = Heartbeat.objects.filter(kind=Heartbeat.Kind.WORKER, beaten_at__gte=Now() - SILENT_AFTER)
    teller = at_work.order_by("process").values_list("process", flat=True).first()
    if teller is not None:
        said = {"teller": teller, "tasks": list(tasks)}
        threading.Thread(target=_announce, args=(app, said), name="events of what was revoked").start()


def _announce(app: Any, said: Mapping[str, Any]) -> None:
    try:
        with app.connection_for_write() as connection:
            connection.connect()  # Only once: left alone, the remote control would wait for the broker forever.
            app.control.broadcast(COMMAND, arguments=said, connection=connection)
    except Exception as error:  # noqa: BLE001 - of whatever transport; what was revoked is so all the same
        logger.info("No event tells of %d tasks that were revoked: %r", len(said["tasks"]), error)
