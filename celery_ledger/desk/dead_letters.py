"""
Operators' actions on dead tasks: replay them, at once or slowly, with different arguments, or discard them.

They accept any number of tasks and work in portions. Each portion is one transaction, which also sends
``tasks_replayed`` or ``tasks_discarded``. For actions that take longer than a moment, see
:mod:`celery_ledger.desk.decisions`.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from celery import current_app as app
from django.db.models import Count, Max, Min, Q, QuerySet

from celery_ledger.context import current_actor
from celery_ledger.databases import atomic, connection
from celery_ledger.models import DurableTask, Tally
from celery_ledger.project import import_tasks
from celery_ledger.rows import following, serialized, tally
from celery_ledger.rows.calls import arguments_as_json
from celery_ledger.rows.kinds import fingerprint_of_error, kind_of
from celery_ledger.rows.ledger import MAX_ERROR_LENGTH
from celery_ledger.rows.sql import statements
from celery_ledger.signals import tasks_discarded, tasks_replayed
from celery_ledger.walking import walk

Status = DurableTask.Status
#: How many attempts a replay allows.
REPLAY_ATTEMPTS = 3
#: Slowest and fastest replay, in tasks per second.
SLOWEST, FASTEST = 0.01, 10_000.0
#: How many tasks one transaction handles.
PORTION = 1_000


@dataclass(frozen=True)
class Group:
    """Dead tasks with the same name and kind of error. ``error`` is the kind, ``example`` one of the errors."""

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


@dataclass(frozen=True)
class Selection:
    """A selection of dead tasks: those that meet all given conditions; without any, all."""

    task: str | None = None
    queue: str | None = None
    subject: str | None = None
    #: Part of the error's text.
    search: str | None = None
    #: The id of a group.
    fingerprint: str | None = None

    def tasks(self) -> QuerySet[DurableTask]:
        """Return the selected tasks, longest dead first."""
        if self.fingerprint is not None:
            sort_by_kind()
        return self.tasks_as_sorted()

    def tasks_as_sorted(self) -> QuerySet[DurableTask]:
        """Return the selected tasks as :meth:`tasks` does, without first determining the kind of each dead task."""
        dead = dead_tasks(name=self.task)
        if self.queue is not None:
            dead = dead.filter(queue=self.queue)
        if self.subject is not None:
            dead = dead.filter(subject=self.subject)
        if self.search is not None:
            dead = dead.filter(last_error__icontains=self.search)
        if self.fingerprint is not None:
            dead = dead.filter(fingerprint=self.fingerprint)
        return dead

    def as_json(self) -> dict[str, str]:
        """Return the given conditions."""
        return {name: value for name, value in asdict(self).items() if value is not None}


#: For how many groups one statement finds an example.
MOST_LOOKED_FOR = 100


def groups(dead: QuerySet[DurableTask] | None = None) -> list[Group]:
    """Return the dead tasks by name and kind of error, the largest group first. The database counts them."""
    sort_by_kind()
    rows = (dead_tasks() if dead is None else dead).order_by().exclude(completed_at=None)
    counted = list(
        rows.values_list("name", "fingerprint").annotate(
            count=Count("*"), first=Min("completed_at"), last=Max("completed_at")
        )
    )
    examples: dict[tuple[str, str], str] = {}
    for start in range(0, len(counted), MOST_LOOKED_FOR):
        first_of_each = Q()
        for name, mark, _, first, _ in counted[start : start + MOST_LOOKED_FOR]:
            first_of_each |= Q(name=name, fingerprint=mark, completed_at__lte=first)
        errors = rows.filter(first_of_each).order_by("-id").values_list("name", "fingerprint", "last_error")
        examples |= {(name, mark): error for name, mark, error in errors}
    found = [
        Group(
            fingerprint=mark,
            task=name,
            error=kind_of(examples.get((name, mark), "")),
            example=examples.get((name, mark), ""),
            count=count,
            first_at=first,
            last_at=last,
        )
        for name, mark, count, first, last in counted
    ]
    return sorted(found, key=lambda group: (-group.count, group.task, group.fingerprint))


def in_order() -> Iterator[DurableTask]:
    """Yield the dead tasks, longest dead first, a portion at a time."""
    dated = dead_tasks().exclude(completed_at=None)
    rest = dated
    while portion := list(rest[:PORTION]):
        yield from portion
        last = portion[-1]
        rest = dated.filter(Q(completed_at__gt=last.completed_at) | Q(completed_at=last.completed_at, id__gt=last.id))
    yield from walk(dead_tasks().filter(completed_at=None))


def sort_by_kind() -> None:
    """
    Record the kind of error of dead tasks that lack it because they died in an older release.

    For tasks that die in this release, :func:`celery_ledger.rows.ledger.fail` records it.
    """
    unsorted = DurableTask.objects.filter(status=Status.DEAD, fingerprint="").order_by("name", "completed_at")
    while rows := list(unsorted.values_list("id", "name", "last_error")[:PORTION]):
        kinds = defaultdict(list)
        for id, name, error in rows:
            kinds[fingerprint_of_error(name, error)].append(id)
        for mark, ids in kinds.items():
            DurableTask.objects.filter(id__in=ids).update(fingerprint=mark)


def replay(ids: Iterable[UUID], *, per_second: float | None = None) -> int:
    """
    Make dead tasks pending again, under the same id; return how many.

    All are due now, or in the order of ``ids`` at ``per_second`` tasks per second. Each gets a few more attempts. A
    task that is not dead is left alone, so repeating the call replays nothing twice. There may be any number; each
    portion is a transaction.

    Raises:
        ValueError: the rate is out of bounds.
    """
    check_rate(per_second)
    count, pause, begun = 0, pause_of(per_second), time.monotonic()
    for portion in batched(dict.fromkeys(ids), PORTION):
        count += replay_portion(portion, pause=pause, start=count * pause - (time.monotonic() - begun))
    return count


def check_rate(per_second: float | None) -> None:
    """
    Refuse an invalid rate for a replay.

    Raises:
        ValueError: the rate is out of bounds.
    """
    if per_second is not None and not SLOWEST <= per_second <= FASTEST:
        raise ValueError(f"The rate must be from {SLOWEST:g} to {FASTEST:g} tasks a second, got {per_second:g}.")


def pause_of(per_second: float | None) -> float:
    """Return the seconds between two tasks, 0 for no pause."""
    return 1 / per_second if per_second else 0.0


def replay_portion(ids: Sequence[UUID], *, pause: float, start: float = 0.0, who: int | None = None) -> int:
    """
    Replay these dead tasks in one transaction, the first in ``start`` seconds, then one every ``pause`` seconds.

    ``who`` made the decision; by default, the user of the current request.
    """
    with atomic():
        tasks = _make_pending(ids, pause=pause, start=start)
        if tasks:
            tasks_replayed.send_robust(
                sender=DurableTask, ids=[str(task.id) for task in tasks], who=current_actor() if who is None else who
            )
    return len(tasks)


def replay_edited(id: UUID, *, args: list[Any], kwargs: dict[str, Any]) -> bool:
    """
    Replay one dead task with different arguments; False if it is not dead.

    Raises:
        TypeError: the arguments do not fit the task, or cannot be stored in a row.
        LookupError: this version of the project has no task of its name.
    """
    with atomic():
        task = DurableTask.objects.filter(id=id, status=Status.DEAD).select_for_update().first()
        if task is None:
            return False
        import_tasks()
        if task.name not in app.tasks:
            raise LookupError(f"There is no task {task.name!r} here.")
        app.tasks[task.name].check_arguments(tuple(args), kwargs)
        try:
            for arguments in (args, kwargs):
                arguments_as_json(task.name, arguments)
        except ValueError as error:
            raise TypeError(str(error)) from None
        before = {"args": task.args, "kwargs": task.kwargs}
        # These replace the arguments, including any that are not JSON.
        options = {name: value for name, value in (task.options or {}).items() if name != serialized.KEY}
        DurableTask.objects.filter(id=id).update(args=args, kwargs=kwargs, options=options or None)
        _make_pending([id], pause=0)
        tasks_replayed.send_robust(
            sender=DurableTask,
            ids=[str(id)],
            who=current_actor(),
            edited={"before": before, "after": {"args": args, "kwargs": kwargs}},
        )
    return True


def discard(ids: Iterable[UUID], *, reason: str) -> int:
    """
    Discard dead tasks permanently with a reason; return how many. Any number, in portions.

    Raises:
        ValueError: ``reason`` is empty.
    """
    reason = check_reason(reason)
    return sum(discard_portion(portion, reason=reason) for portion in batched(dict.fromkeys(ids), PORTION))


def check_reason(reason: str) -> str:
    """
    Return ``reason`` without surrounding whitespace.

    Raises:
        ValueError: it is empty.
    """
    if not reason.strip():
        raise ValueError("Say why the tasks are discarded.")
    return reason.strip()


def discard_portion(ids: Sequence[UUID], *, reason: str, who: int | None = None) -> int:
    """Discard these dead tasks in one transaction. ``who`` decided it, by default the user of the current request."""
    with atomic():
        tasks = _changed(
            statements(connection.vendor).discard, ids, reason=f"Discarded: {reason}", longest=MAX_ERROR_LENGTH
        )
        if not tasks:
            return 0
        tally.add(Tally.Outcome.DISCARDED, _counts(tasks))
        tasks_discarded.send_robust(
            sender=DurableTask,
            ids=[str(task.id) for task in tasks],
            reason=reason[:500],
            who=current_actor() if who is None else who,
        )
    return len(tasks)


class _Decided(NamedTuple):
    """The columns of a task that announcements need: a decision may concern a million tasks."""

    id: UUID
    queue: str
    name: str


def _make_pending(ids: Sequence[UUID], *, pause: float, start: float = 0.0) -> list[_Decided]:
    """Make dead tasks of these due, the first in ``start`` seconds, one every ``pause`` seconds; return them."""
    sql = statements(connection.vendor).replay
    tasks = _changed(sql, ids, pause=pause, start=start, attempts=REPLAY_ATTEMPTS)
    tally.add(Tally.Outcome.REPLAYED, _counts(tasks))
    if tasks:
        following.resumed(app, [task.id for task in tasks])
    return tasks


def _changed(sql: str, ids: Sequence[UUID], **parameters: Any) -> list[_Decided]:
    """Run a statement on dead tasks; return those of ``ids`` that it changed, in order."""
    postgresql = connection.vendor == "postgresql"
    given = list(ids) if postgresql else json.dumps([id.hex for id in ids])
    with connection.cursor() as cursor:
        cursor.execute(sql, {"ids": given, **parameters})
        rows = cursor.fetchall()
    place = {id: number for number, id in enumerate(ids)}
    tasks = [_Decided(id if postgresql else UUID(id), queue, name) for id, queue, name in rows]
    return sorted(tasks, key=lambda task: place[task.id])


def _counts(tasks: Iterable[_Decided]) -> list[tally.Count]:
    rows = Counter((task.queue, task.name) for task in tasks)
    return [tally.Count(queue, name, count) for (queue, name), count in rows.items()]


def batched(ids: Iterable[UUID], size: int) -> Iterator[list[UUID]]:
    """Yield ``ids`` in lists of at most ``size``: statements have a limited number of parameters."""
    rest = iter(ids)
    while portion := list(islice(rest, size)):
        yield portion
