"""Which of several databases has a task's row: ids are unique over all of them."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from uuid import UUID

from celery_ledger import databases
from celery_ledger.models import Chord, DurableTask, Result, Row, Step

Answer = TypeVar("Answer")


def first(*looks: Callable[[], Answer | None]) -> Answer | None:
    """
    Return the first answer of these looks that is not None, each made in every database, the one in use first.

    A database that is away is passed over, unless none of the others has an answer: then its error is raised.
    """
    error: Exception | None = None
    for look in looks:
        for alias in databases.in_order():
            try:
                with databases.using(alias):
                    found = look()
            except databases.AWAY as away:
                if not databases.are_several():
                    raise
                error = error or away
            else:
                if found is not None:
                    return found
    if error is not None:
        raise error
    return None


def of(id: UUID) -> str:
    """
    Return the database that has a task's row, or its result; the one in use if none of them has any.

    A database that is away is passed over, unless the row is in none of the others: then its error is raised.
    """
    return _home(id, (DurableTask, "id"), (Result, "id"))


def of_canvas(id: UUID) -> str:
    """Return the database that has a chain, group or chord, by its id or a task's, as :func:`of` does."""
    return _home(id, (DurableTask, "id"), (DurableTask, "canvas"), (Step, "canvas"), (Chord, "canvas"))


def _home(id: UUID, *places: tuple[type[Row], str]) -> str:
    if not databases.are_several():
        return databases.current()
    return first(*(partial(_here, model, column, id) for model, column in places)) or databases.current()


def _here(model: type[Row], column: str, id: UUID) -> str | None:
    """Return the database in use, if it has such a row."""
    return databases.current() if model.objects.filter(**{column: id}).exists() else None


@dataclass
class Found:
    """Where rows are, as far as the databases answered."""

    #: The status of each row that was found, by the database that has it.
    statuses: dict[str, dict[UUID, str]] = field(default_factory=dict)
    #: The ids that no database has, of those that answered.
    nowhere: list[UUID] = field(default_factory=list)
    #: The databases that did not answer, although ids were missing.
    away: dict[str, Exception] = field(default_factory=dict)

    def all(self) -> dict[UUID, str]:
        """Return the statuses of all rows that were found."""
        return {id: status for rows in self.statuses.values() for id, status in rows.items()}


def find(ids: Iterable[UUID]) -> Found:
    """Look for these rows in the database in use and, for those that it does not have, in the others."""
    found = Found(nowhere=list(dict.fromkeys(ids)))
    for alias in databases.in_order():
        if not found.nowhere:
            break
        try:
            there = statuses_in(alias, found.nowhere)
        except databases.AWAY as error:
            if not databases.are_several():
                raise
            found.away[alias] = error
            continue
        if there:
            found.statuses[alias] = there
            found.nowhere = [id for id in found.nowhere if id not in there]
    return found


def by_database(ids: Iterable[UUID]) -> dict[str, list[UUID]]:
    """
    Return these ids by the database that has their rows.

    Those that are nowhere go to the databases that did not answer or, if all did, to the one in use.
    """
    given = list(dict.fromkeys(ids))
    if not databases.are_several():
        return {databases.current(): given}
    found = find(given)
    homes = {alias: list(rows) for alias, rows in found.statuses.items()}
    for alias in (found.away or [databases.current()]) if found.nowhere else ():
        homes[alias] = [*homes.get(alias, []), *found.nowhere]
    return homes


def statuses(ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the statuses of those of these tasks that any database has that answers."""
    return find(ids).all()


def statuses_in(alias: str, ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the statuses of those of these tasks that one database has."""
    return dict(DurableTask.objects.using(alias).filter(id__in=ids).values_list("id", "status"))


def rows(ids: Collection[UUID]) -> dict[UUID, DurableTask]:
    """Return the rows of those of these tasks that any database has that answers."""
    return {
        id: row
        for alias, own in find(ids).statuses.items()
        for id, row in DurableTask.objects.using(alias).in_bulk(list(own)).items()
    }
