"""Rows that a worker takes to run them, as the statements that take them answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery_ledger.errors import PermanentError
from celery_ledger.models import Priority
from celery_ledger.rows import arguments, large, serialized

#: As many starts as a row counts: no limit.
MOST_STARTS = 2_147_483_647


@dataclass(frozen=True)
class Started:
    """A row that the consumer took to run. ``attempts`` counts this attempt already."""

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
    counted: bool = True
    #: Why its arguments cannot be given to a body.
    unreadable: PermanentError | None = None


@dataclass(frozen=True)
class Wanted:
    """A row of the task ``name`` that is to be started by the statement that ends another."""

    id: UUID | None
    name: str
    lease: float
    limit: int | None

    def parameters(self) -> dict[str, Any]:
        """Return the statement's parameters, except for the id."""
        return {"name": self.name, "lease": self.lease, "limit": MOST_STARTS if self.limit is None else self.limit}


def started(row: Sequence[Any]) -> Started:
    """Return a row as the statements that take one answer it."""
    id, name, args, kwargs, attempts, attempt_limit, subject, request_id, options, priority = row
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
        unreadable=unreadable,
    )


def as_uuid(value: UUID | str) -> UUID:
    """Return an id as Python has it, whatever the database answers."""
    return value if isinstance(value, UUID) else UUID(value)
