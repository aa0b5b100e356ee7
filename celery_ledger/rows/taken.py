"""Rows that workers take, in the form that the statements return."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery_ledger.errors import PermanentError
from celery_ledger.models import Priority
from celery_ledger.rows import arguments, large, serialized

#: The highest number of starts that a row counts: no limit.
MOST_STARTS = 2_147_483_647


@dataclass(frozen=True)
class Started:
    """A row taken by the consumer. ``attempts`` includes this attempt."""

    id: UUID
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    attempts: int
    attempt_limit: int | None
    subject: str | None
    request_id: str
    options: dict[str, Any] | None = None
    priority: int = Priority.NORMAL
    queue: str = ""
    counted: bool = True
    #: Why its arguments cannot be passed to a body.
    unreadable: PermanentError | None = None


@dataclass(frozen=True)
class Wanted:
    """A row of the task ``name``, to be started by the statement that ends another row."""

    id: UUID | None
    name: str
    lease: float
    limit: int | None

    def parameters(self) -> dict[str, Any]:
        """Return the statement's parameters without the id."""
        return {"name": self.name, "lease": self.lease, "limit": MOST_STARTS if self.limit is None else self.limit}


def started(row: Sequence[Any]) -> Started:
    """Return a row from the result of a statement that takes one."""
    id, name, args, kwargs, attempts, attempt_limit, subject, request_id, options, priority, queue = row
    said = json.loads(options) if options else None
    given, named, unreadable = serialized.given(large.resolved(arguments.read(args)), arguments.read(kwargs), said)
    return Started(
        as_uuid(id),
        name,
        given,
        named,
        attempts,
        attempt_limit,
        subject,
        request_id,
        said,
        priority,
        queue,
        unreadable=unreadable,
    )


def as_uuid(value: UUID | str) -> UUID:
    """Return an id as a Python UUID, whatever the database returns."""
    return value if isinstance(value, UUID) else UUID(value)
