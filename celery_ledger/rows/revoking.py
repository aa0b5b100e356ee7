"""
Revocation of rows: cancelled permanently, with REVOKED as their result.

Rows that a person or a caller cancels and rows that expire all end here. Each end is announced once, by the process
that ended the row, after the commit: to receivers of Celery's ``task_revoked``, and by an event, which a worker sends.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from celery import signals, states
from celery.app.task import Context
from celery.exceptions import TaskRevokedError
from django.db.models import QuerySet
from django.db.models.functions import Now

from celery_ledger import sqlite
from celery_ledger.databases import atomic, connection, on_commit
from celery_ledger.events import tasks_settled
from celery_ledger.ids import call_id
from celery_ledger.models import Chord, DurableTask, Step
from celery_ledger.project import AppNotFoundError, find_app, import_tasks
from celery_ledger.rows import following, results, stamps, untold
from celery_ledger.rows.ledger import MAX_ERROR_LENGTH
from celery_ledger.rows.options import for_the_request
from celery_ledger.rows.results import Outcome

#: The expiry of a call that was revoked before it was made.
NEVER = "1970-01-02T00:00:00+00:00"


class Revoked(NamedTuple):
    """A revoked row, and its previous state."""

    id: UUID
    name: str
    status: str
    subject: str | None


def revoke(
    rows: QuerySet[DurableTask],
    *,
    note: str,
    why: str,
    most: int,
    expired: bool = False,
    signum: int | None = None,
    killed: Collection[str] = (),
) -> list[Revoked]:
    """
    Revoke up to ``most`` of ``rows``, in the caller's transaction and in order, and return them.

    Rows locked elsewhere are skipped, if the database supports it. ``note`` is kept in the row, and ``why`` in its
    result. ``signum`` is the signal for the processes of rows whose status is in ``killed``.
    """
    sqlite.write_first()
    skip = connection.features.has_select_for_update_skip_locked
    found = rows.select_for_update(skip_locked=skip).values_list("id", "name", "status", "subject")
    ended = [Revoked(*row) for row in found[:most]]
    if not ended:
        return []
    ids = [row.id for row in ended]
    DurableTask.objects.filter(id__in=ids).update(
        status=DurableTask.Status.CANCELLED,
        lease_until=None,
        completed_at=Now(),
        last_error=note[:MAX_ERROR_LENGTH],
    )
    error = TaskRevokedError(why)
    results.record([Outcome(id, states.REVOKED, error) for id in ids])
    parts = DurableTask.objects.filter(id__in=ids, canvas__isnull=False).order_by("id").values_list("id", "options")
    if canvases := list(parts):
        following.cancelled(find_app(), canvases, error)
    on_commit(partial(_tell, ended, expired=expired, signum=signum, killed=killed), robust=True)
    return ended


def revoke_later(ids: Sequence[str], *, why: str) -> list[str]:
    """
    Revoke calls of a canvas that are not made yet, in the caller's transaction; return their ids.

    These are steps of chains and bodies of chords, known by the ids that their caller was given. When its turn comes,
    such a call becomes an expired row, and whatever follows it ends in the same way. A call that is being made at this
    moment runs.
    """
    error, found = TaskRevokedError(why), []
    for id in ids:
        for model, field in ((Step, "signature"), (Chord, "body")):
            for kept in model._default_manager.filter(**{f"{field}__contains": f'"{id}"'}):
                said = json.loads(getattr(kept, field))
                if str(said.get("options", {}).get("task_id")) != id:
                    continue  # It only refers to the task.
                said["options"]["expires"] = NEVER
                model._default_manager.filter(pk=kept.pk).update(**{field: json.dumps(said)})
                results.record_doomed(find_app(), [id], states.REVOKED, error)
                found.append(id)
    return found


def revoke_stamped(id: UUID, carried: Mapping[str, Any]) -> None:
    """Revoke a waiting row if one of its stamps was revoked while it was written."""
    if not stamps.are_revoked(carried):
        return
    waiting = [DurableTask.Status.PENDING, DurableTask.Status.PUBLISHED]
    with atomic():
        revoke(DurableTask.objects.filter(id=id, status__in=waiting), note="Cancelled: revoked", why="revoked", most=1)


def _tell(rows: Sequence[Revoked], *, expired: bool, signum: int | None, killed: Collection[str]) -> None:
    if subjects := {row.subject for row in rows} - {None}:
        tasks_settled.send_robust(sender=None, subjects=subjects)
    _announce(rows, expired=expired, signum=signum, killed=killed)
    if not signals.task_revoked.receivers:
        return
    before = {row.id: row.status for row in rows}
    tasks = _tasks_named({row.name for row in rows})
    found = DurableTask.objects.filter(id__in=before, name__in=tasks).order_by("id")
    for id, name, args, kwargs, options in found.values_list("id", "name", "args", "kwargs", "options"):
        terminated = before[id] in killed
        call = call_id(id, options)
        about = {"id": call, "root_id": call, "task": name, "args": args, "kwargs": kwargs}
        signals.task_revoked.send(
            sender=tasks[name],
            request=Context(about | for_the_request(options)),
            terminated=terminated,
            signum=signum if terminated else None,
            expired=expired,
        )


def _announce(rows: Sequence[Revoked], *, expired: bool, signum: int | None, killed: Collection[str]) -> None:
    try:
        app = find_app()
    except AppNotFoundError:
        return
    told = [{"uuid": str(row.id), "name": row.name, "terminated": row.status in killed} for row in rows]
    untold.announce(
        app, [{**each, "signum": signum if each["terminated"] else None, "expired": expired} for each in told]
    )


def _tasks_named(names: Collection[str]) -> dict[str, Any]:
    """Return the project's tasks with these names; workers no longer consume the others."""
    try:
        app = find_app()
        if any(name not in app.tasks for name in names):
            import_tasks()
    except AppNotFoundError:
        return {}
    return {name: app.tasks[name] for name in names if name in app.tasks}
