"""
The source of ``AsyncResult`` and the *Task results* admin: django-celery-results' rows, or our own.

The consumer writes them in the transaction that ends an attempt, with one statement for a whole batch, and never
through Celery's result backend. So they cannot be lost and cannot contradict the row. A project with another backend
has none here, but its attempts' outcomes are counted all the same.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import states
from celery.backends.base import DisabledBackend
from celery.result import ResultBase
from celery.utils.serialization import ensure_serializable
from django.apps import apps
from django.db import DataError
from django.db.models import QuerySet
from kombu.utils.json import dumps

from celery_ledger.context import current_carrier
from celery_ledger.databases import connection
from celery_ledger.ids import row_id
from celery_ledger.models import DurableTask, Result
from celery_ledger.project import AppNotFoundError, find_app
from celery_ledger.rows import tally, untold
from celery_ledger.rows.sql import MOST_LOOKED_AFTER, of_member, statements
from celery_ledger.rows.taken import Started, Wanted, started
from celery_ledger.rows.wording import said_by, shown, words_of
from celery_ledger.trips import planned

if TYPE_CHECKING:
    from django_celery_results.models import TaskResult

logger = logging.getLogger(__name__)

#: Longest result that is kept as it is, in characters of JSON.
MOST_KEPT = 1_000_000
SUCCESS = states.SUCCESS
RETRY = states.RETRY
FAILURE = states.FAILURE


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: its Celery state, and the value returned or the error raised."""

    id: UUID
    state: str
    value: Any = None
    traceback: str | None = None
    #: Whether it can be asked for: false for a task with ``ignore_result``, which is only counted.
    is_kept: bool = True
    #: Whether its task keeps results in the ledger's own table, wherever other tasks keep theirs.
    is_own: bool = False

    def as_json(self) -> str:
        """Return the value or error as Celery's JSON backends write it; for anything else, its ``repr``."""
        if isinstance(self.value, BaseException):
            return _error_as_json(self.value)
        try:
            text = as_json(self.value)
        except Exception as error:  # noqa: BLE001 - any value of a project; and the effect that it reports has happened
            logger.warning("The result of %s is kept as its repr, for it is not JSON: %s", self.id, words_of(error))
            text = ""
        return text if 0 < len(text) <= MOST_KEPT else json.dumps(shown(self.value))

    def as_own_json(self) -> str | None:
        """Return :meth:`as_json`; None if the row says it all: the task succeeded and returned nothing."""
        return None if self.state == SUCCESS and self.value is None else self.as_json()


def as_json(value: Any) -> str:
    """Return a value as Celery's JSON backends write it; raises kombu's error for anything that is not JSON."""
    return str(dumps(value.as_tuple() if isinstance(value, ResultBase) else value))


def _error_as_json(error: BaseException) -> str:
    kind = type(error)
    known = {"exc_type": kind.__qualname__, "exc_module": kind.__module__}
    try:
        text = str(dumps({**known, "exc_message": ensure_serializable(error.args, dumps)}))
    except Exception:  # noqa: BLE001 - any error of a project: its arguments may be anything
        text = ""
    if not 0 < len(text) <= MOST_KEPT:
        text = json.dumps({**known, "exc_message": [said_by(argument) for argument in error.args]})
    return text


def are_kept() -> bool:
    """Whether the project keeps results: django-celery-results is one of its apps."""
    return apps.is_installed("django_celery_results")


def of(ids: Iterable[UUID]) -> "QuerySet[TaskResult]":
    """Return the results of ledger rows, if results are kept."""
    ids = list(ids)
    said = DurableTask.objects.filter(id__in=ids, options__task_id__isnull=False)
    return _all().filter(task_id__in=[*map(str, ids), *said.values_list("options__task_id", flat=True)])


def of_calls(ids: Iterable[str]) -> "QuerySet[TaskResult]":
    """Return the results of calls that may not have rows, if results are kept."""
    return _all().filter(task_id__in=list(ids))


def done_by(worker: str, *, most: int) -> list[UUID]:
    """Return the ids of the latest tasks that a worker ended, at most ``most``; none if results are not kept."""
    if not are_kept():
        return []
    names = _all().filter(worker=worker).order_by("-id").values_list("task_id", flat=True)[:most]
    return [row_id(name) for name in names]


def _all() -> "QuerySet[TaskResult]":
    from django_celery_results.models import TaskResult

    results: QuerySet[TaskResult] = TaskResult.objects.all()
    return results


def are_own(app: Any) -> bool:
    """Whether the ledger itself keeps results: the project has no backend; see :mod:`celery_ledger.backend`."""
    return getattr(app.backend, "is_the_ledgers", False) and not are_kept()


def record(outcomes: Sequence[Outcome], *, is_told: bool = True) -> None:
    """
    Write or replace the results of rows, if kept, and count them, in the caller's transaction.

    After the commit, the project's own backend is told about revoked tasks, and about all others too unless ``is_told``
    says that it knows already.
    """
    app = _app()
    sql = statements(connection.vendor)
    kept = [outcome for outcome in outcomes if outcome.is_kept and not outcome.is_own]
    _write(
        sql.own_results,
        [outcome for outcome in outcomes if outcome.is_kept and outcome.is_own],
        app,
        of=Outcome.as_own_json,
    )
    if are_kept():
        _write(sql.results, kept, app, of=Outcome.as_json)
    elif app is not None and are_own(app):
        _write(sql.own_results, kept, app, of=Outcome.as_own_json)
    else:
        _write(sql.outcomes, kept, app)
        others = [outcome for outcome in kept if not is_told or outcome.state == states.REVOKED]
        if others and app is not None and not isinstance(app.backend, DisabledBackend):
            untold.tell_later(app, {outcome.id: (outcome.state, outcome.value) for outcome in others})
    _write(sql.outcomes, [outcome for outcome in outcomes if not outcome.is_kept], app)


@dataclass(frozen=True)
class Finished:
    """Whether a row was still held when its success was recorded, and the row that this started."""

    is_held: bool
    started: Started | None = None


def finish(outcome: Outcome, attempts: int, then: Wanted, part: Mapping[str, Any] | None = None) -> Finished | None:
    """
    Record the success of a row that ran outside transactions, at its attempt ``attempts``, in one statement.

    The same statement starts the next row, if one is given, and adds the row's ``part`` of a chord. Returns None, and
    records nothing, if one statement is not enough: on this database, or because the part may complete its chord.
    """
    app = _app()
    sql = statements(connection.vendor)
    statement, of = sql.finish, None
    if outcome.is_kept and (outcome.is_own or (not are_kept() and app is not None and are_own(app))):
        statement, of = sql.finish_own, Outcome.as_own_json
    elif outcome.is_kept and are_kept():
        statement, of = sql.finish_kept, Outcome.as_json
    if statement is None:
        return None
    parameters = {**_parameters([outcome], app, of), "id": outcome.id, "attempts": attempts, **(part or {})}
    if part:
        statement = of_member(statement)
    try:
        with planned() as cursor:
            cursor.execute(statement, {**parameters, "next": then.id, **then.parameters()})
            held, *row = cursor.fetchone()
    except DataError:
        if part:  # It completes its chord after all; or the value is refused, and is so again there.
            return None
        raise
    if part and not held:
        return None
    return Finished(bool(held), started(row[:11]) if row[0] is not None else None)


def _write(
    statements: Sequence[str], outcomes: Sequence[Outcome], app: Any, of: Callable[[Outcome], str | None] | None = None
) -> None:
    """Run these statements for outcomes; ``of`` returns the values to write for each."""
    if not outcomes:
        return
    parameters = _parameters(outcomes, app, of)
    with planned() as cursor:
        for statement in statements:
            cursor.execute(statement, parameters)


def _parameters(outcomes: Sequence[Outcome], app: Any, of: Callable[[Outcome], str | None] | None) -> dict[str, Any]:
    message = current_carrier()
    parameters: dict[str, Any] = {
        "worker": message and message.worker,
        "slot": tally.own_slot(),
        "meta": json.dumps({"children": [], "message": message and message.id}),
        "extended": bool(app is not None and app.conf.result_extended),
        "many": len(outcomes) > MOST_LOOKED_AFTER,
    }
    if connection.vendor == "postgresql":
        parameters["ids"] = [outcome.id for outcome in outcomes]
        parameters["states"] = [outcome.state for outcome in outcomes]
        if of is not None:
            parameters["results"] = [of(outcome) for outcome in outcomes]
            parameters["tracebacks"] = [outcome.traceback for outcome in outcomes]
    else:
        parameters["outcomes"] = json.dumps(
            [
                {
                    "id": outcome.id.hex,
                    "task_id": str(outcome.id),
                    "state": outcome.state,
                    "result": of and of(outcome),
                    "traceback": outcome.traceback,
                }
                for outcome in outcomes
            ]
        )
    return parameters


def say(id: UUID, state: str, value: Any) -> None:
    """Store what a running task reports, in the ledger's own table, unless the task has ended."""
    value = _error_as_json(value) if isinstance(value, BaseException) else as_json(value)
    key = id if connection.vendor == "postgresql" else id.hex
    with connection.cursor() as cursor:
        cursor.execute(statements(connection.vendor).say, {"id": key, "state": state, "value": value})


def record_doomed(app: Any, ids: Sequence[str], state: str, error: BaseException) -> None:
    """
    Record that tasks of a canvas that have no rows can no longer run, in the caller's transaction.

    The project's own backend is told after the commit.
    """
    if not ids:
        return
    if are_kept():
        for id in ids:
            app.backend.store_result(id, error, state)
    elif are_own(app):
        value = Outcome(UUID(int=0), state, error).as_json()
        Result.objects.bulk_create(
            [Result(id=row_id(id), state=state, value=value) for id in dict.fromkeys(ids)],
            batch_size=PORTION,
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["state", "value"],
        )
    elif not isinstance(app.backend, DisabledBackend):
        untold.tell_of(app, dict.fromkeys(ids, (state, error)))


def forget_doomed(app: Any, ids: Sequence[str]) -> None:
    """Delete the records of :func:`record_doomed`, in the caller's transaction; not in a project's own backend."""
    if are_kept():
        of_calls(ids).filter(status__in=states.EXCEPTION_STATES).delete()
    elif are_own(app):
        Result.objects.filter(id__in=[row_id(id) for id in ids], state__in=states.EXCEPTION_STATES).delete()


def _app() -> Any:
    """Return the project's Celery app, or None."""
    try:
        return find_app()
    except AppNotFoundError:
        return None


#: How many rows are compared at a time.
PORTION = 1_000


def untrue() -> Iterator[str]:
    """Yield a line for each stored result that contradicts the ledger about an ended task."""
    if not are_kept():
        return
    # Results of running or failed tasks are few; those of succeeded ones say SUCCESS, or are among these.
    odd = _all().exclude(status=SUCCESS).order_by("id").values_list("id", "task_id", "status")
    yield from _compare(odd, DurableTask.Status.SUCCEEDED)
    dead = DurableTask.objects.filter(status=DurableTask.Status.DEAD).order_by("id")
    last = UUID(int=0)
    while ids := list(dead.filter(id__gt=last).values_list("id", flat=True)[:PORTION]):
        last = ids[-1]
        for task_id in of(ids).filter(status=SUCCESS).values_list("task_id", flat=True):
            yield f"the result of {task_id} says SUCCESS, and the ledger that it is dead"


def _compare(results: "QuerySet[TaskResult, tuple[int, str, str]]", end: DurableTask.Status) -> Iterator[str]:
    last = 0
    while rows := list(results.filter(id__gt=last)[:PORTION]):
        last = rows[-1][0]
        states = {row_id(task_id): state for _, task_id, state in rows}
        for id in DurableTask.objects.filter(id__in=states, status=end).order_by("id").values_list("id", flat=True):
            yield f"the result of {id} says {states[id]}, and the ledger that it {end.value}"
