"""Which of several databases has a task's row: ids are unique over all of them."""

import logging
from collections.abc import Collection, Iterable
from uuid import UUID

from django.db import Error as DatabaseError

from celery_ledger import databases
from celery_ledger.models import DurableTask, Result

logger = logging.getLogger(__name__)


def of(id: UUID) -> str:
    """
    Return the database that has a task's row, or its result; the one in use if none of them has any.

    A database that is away is passed over, unless the row is in none of the others: then its error is raised.
    """
    if not databases.are_several():
        return databases.current()
    error: DatabaseError | None = None
    aliases = databases.in_order()
    for model in (DurableTask, Result):
        for alias in aliases:
            try:
                if model.objects.using(alias).filter(id=id).exists():
                    return alias
            except DatabaseError as away:
                error = error or away
    if error is not None:
        raise error
    return databases.current()


def by_database(ids: Iterable[UUID]) -> dict[str, list[UUID]]:
    """Return these ids by the database that has their rows; the one in use has those that are nowhere."""
    if not databases.are_several():
        return {databases.current(): list(dict.fromkeys(ids))}
    rest: Collection[UUID] = list(dict.fromkeys(ids))
    found: dict[str, list[UUID]] = {}
    for alias in databases.in_order():
        if there := statuses_in(alias, rest):
            found[alias] = [id for id in rest if id in there]
            rest = [id for id in rest if id not in there]
    if rest:
        found[databases.current()] = [*found.get(databases.current(), []), *rest]
    return found


def statuses(ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the statuses of those of these tasks that any of the databases has."""
    return {id: status for alias in databases.aliases() for id, status in statuses_in(alias, ids).items()}


def statuses_in(alias: str, ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the statuses of those of these tasks that one database has."""
    return dict(DurableTask.objects.using(alias).filter(id__in=ids).values_list("id", "status"))
