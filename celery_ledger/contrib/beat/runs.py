"""Enqueueing of scheduled tasks, and a record of the latest runs."""

import inspect
import json
from datetime import datetime, timedelta
from typing import Any, Final

from celery import Celery
from django.db import router
from django_celery_beat.models import PeriodicTask

from celery_ledger import databases
from celery_ledger.contrib.beat.models import Run
from celery_ledger.ids import row_id

#: How many runs of one schedule are kept.
KEPT: Final = 20


def database() -> str:
    """Return the alias of the database that has the schedules: a run is recorded there with its task, if it can be."""
    return router.db_for_write(PeriodicTask)


def ledger() -> str:
    """Return the ledger that beat works with: in the database of the schedules, if that has one."""
    return database() if database() in databases.aliases() else databases.current()


def enqueue(app: Celery, row: PeriodicTask, due_at: datetime, *, key: str = "") -> Any:
    """
    Enqueue one run. A task with an argument ``due_at`` receives the due time for which it runs.

    ``key`` distinguishes a run that a person asked for from one that is due.
    """
    task = app.tasks[row.task]
    kwargs = json.loads(row.kwargs or "{}")
    if "due_at" in inspect.signature(task.run).parameters:
        kwargs.setdefault("due_at", due_at.isoformat())
    result = task.apply_async(
        json.loads(row.args or "[]"),
        kwargs,
        queue=row.queue,
        priority=row.priority,
        expires=due_at + timedelta(seconds=row.expire_seconds) if row.expire_seconds else None,
        unique_key=f"beat:{row.name}:{key}{due_at.isoformat()}",
        unique_for="kept",  # Overrides what the task says for its other calls.
    )
    if result is not None and result.id:
        _note(row, due_at, result.id)
    return result


def _note(row: PeriodicTask, due_at: datetime, id: str) -> None:
    Run.objects.create(schedule=row, due_at=due_at, task=row_id(id))
    newest = Run.objects.filter(schedule=row).order_by("-pk").values_list("pk", flat=True)
    if edge := newest[KEPT : KEPT + 1].first():
        Run.objects.filter(schedule=row, pk__lte=edge).delete()
