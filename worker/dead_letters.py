"""
What a person does with dead tasks: replay them, all at once or slowly, with other arguments, or discard them.

Each decision is one transaction and is announced in it; see ``tasks_replayed`` and ``tasks_discarded``.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet

from worker import tally
from worker.celery import app, import_tasks
from worker.context import current_actor
from worker.models import DurableTask, Tally
from worker.signals import tasks_discarded, tasks_replayed
from worker.sql import statements

Status = DurableTask.Status
#: Attempts that a replay allows.
REPLAY_ATTEMPTS = 3
#: Slowest and fastest replay, in tasks a second.
SLOWEST, FASTEST = 0.01, 10_000.0
#: What tells two errors of one kind apart: what stands in quotes, ids and numbers; and addresses of mail.
PARTICULARS = re.compile(
    r"""'[^']*'|"[^"]*"|\b(?:0x[0-9a-fA-F]+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9]+(?:[.,:][0-9]+)*)"""
)
ADDRESSES = re.compile(r"\S+@\S+")


@dataclass(frozen=True)
class Group:
    """Dead tasks of one name whose errors are of one kind. ``error`` is the kind, ``example`` one of them."""

    fingerprint: str
    task: str
    error: str
    example: str
    count: int
    first_at: datetime
    last_at: datetime


def dead_tasks(*, name: str | None = None) -> QuerySet[DurableTask]:
    """Return the dead tasks, longest dead first; only those of the task ``name`` if given."""
    dead = DurableTask.objects.filter(status=Status.DEAD).order_by("completed_at", "id")
    return dead if name is None else dead.filter(name=name)


def kind_of(error: str) -> str:
    """Return what ``error`` has in common with others of its kind: its first line, without its particulars."""
    line = error.partition("\n")[0]
    if "@" in line:
        line = ADDRESSES.sub("…", line)
    return PARTICULARS.sub("…", line)


def fingerprint(name: str, error: str) -> str:
    """Return a short name for the kind of ``error`` of the task ``name``."""
    return _fingerprint_of_kind(name, kind_of(error))


def groups(dead: QuerySet[DurableTask] | None = None) -> list[Group]:
    """Return the dead tasks by name and kind of error, the largest group first."""
    rows = (dead_tasks() if dead is None else dead).order_by()
    members: defaultdict[tuple[str, str], list[tuple[str, datetime]]] = defaultdict(list)
    for name, error, died_at in rows.values_list("name", "last_error", "completed_at"):
        if died_at is not None:  # What is dead has died.
            members[name, kind_of(error)].append((error, died_at))
    found = [
        Group(
            fingerprint=_fingerprint_of_kind(name, kind),
            task=name,
            error=kind,
            example=errors[0][0],
            count=len(errors),
            first_at=min(died_at for _, died_at in errors),
            last_at=max(died_at for _, died_at in errors),
        )
        for (name, kind), errors in members.items()
    ]
    return sorted(found, key=lambda group: (-group.count, group.task, group.fingerprint))


def _fingerprint_of_kind(name: str, kind: str) -> str:
    return hashlib.sha256(f"{name} {kind}".encode()).hexdigest()[:16]


def ids_of(fingerprints: Collection[str]) -> list[UUID]:
    """Return the ids of the dead tasks of these groups, longest dead first."""
    rows = dead_tasks().values_list("id", "name", "last_error")
    return [id for id, name, error in rows.iterator() if fingerprint(name, error) in fingerprints]


def replay(ids: Iterable[UUID], *, per_second: float | None = None) -> int:
    """
    Make dead tasks pending again, under the same id; return how many there were.

    All are due now, or in the order of ``ids`` so many ``per_second``. Each gets a few more attempts. A task
    that is not dead, or not any more, is left alone: pressing twice replays once.

    Raises:
        ValueError: the rate is out of bounds.
    """
    if per_second is not None and not SLOWEST <= per_second <= FASTEST:
        raise ValueError(f"The rate must be from {SLOWEST:g} to {FASTEST:g} tasks a second, got {per_second:g}.")
    with transaction.atomic():
        order = {id: place for place, id in enumerate(dict.fromkeys(ids))}
        tasks = sorted(_locked(order), key=lambda task: order[task.id])
        _make_pending(tasks, pause=1 / per_second if per_second else 0)
        if tasks:
            tasks_replayed.send_robust(sender=DurableTask, ids=[str(task.id) for task in tasks], who=current_actor())
    return len(tasks)


def replay_edited(id: UUID, *, args: list[Any], kwargs: dict[str, Any]) -> bool:
    """
    Replay one dead task with other arguments; False if it is not dead.

    Raises:
        TypeError: the arguments do not fit the task.
        LookupError: this version of the project has no task of its name.
    """
    with transaction.atomic():
        task = next(iter(_locked([id])), None)
        if task is None:
            return False
        import_tasks()
        if task.name not in app.tasks:
            raise LookupError(f"There is no task {task.name!r} here.")
        app.tasks[task.name].check_arguments(tuple(args), kwargs)
        before = {"args": task.args, "kwargs": task.kwargs}
        DurableTask.objects.filter(id=id).update(args=args, kwargs=kwargs)
        _make_pending([task], pause=0)
        tasks_replayed.send_robust(
            sender=DurableTask,
            ids=[str(id)],
            who=current_actor(),
            edited={"before": before, "after": {"args": args, "kwargs": kwargs}},
        )
    return True


def discard(ids: Iterable[UUID], *, reason: str) -> int:
    """
    Give up dead tasks for good and note why; return how many there were.

    Raises:
        ValueError: there is no reason.
    """
    reason = reason.strip()
    if not reason:
        raise ValueError("Say why the tasks are discarded.")
    with transaction.atomic():
        tasks = _locked(list(ids))
        for task in tasks:
            task.status = Status.CANCELLED
            task.last_error = f"Discarded: {reason} ({task.last_error})"[:500]
        DurableTask.objects.bulk_update(tasks, ["status", "last_error"], batch_size=500)
        if tasks:
            tally.add(Tally.Outcome.DISCARDED, _counts(tasks))
            ids_discarded = [str(task.id) for task in tasks]
            tasks_discarded.send_robust(sender=DurableTask, ids=ids_discarded, reason=reason[:500], who=current_actor())
    return len(tasks)


def _locked(ids: Collection[UUID]) -> list[DurableTask]:
    """Return those of ``ids`` that are dead, locked in id order."""
    dead = DurableTask.objects.filter(id__in=list(ids), status=Status.DEAD)
    return list(dead.select_for_update().order_by("id"))


def _make_pending(tasks: Collection[DurableTask], *, pause: float) -> None:
    """Make locked dead tasks due, one every ``pause`` seconds."""
    if not tasks:
        return
    postgresql = connection.vendor == "postgresql"
    ids = [task.id if postgresql else task.id.hex for task in tasks]
    with connection.cursor() as cursor:
        cursor.execute(
            statements(connection.vendor).replay,
            {"ids": ids if postgresql else json.dumps(ids), "pause": pause, "attempts": REPLAY_ATTEMPTS},
        )
    tally.add(Tally.Outcome.REPLAYED, _counts(tasks))


def _counts(tasks: Iterable[DurableTask]) -> list[tally.Count]:
    rows = Counter((task.queue, task.name) for task in tasks)
    return [tally.Count(queue, name, count) for (queue, name), count in rows.items()]
