"""
The way into the ledger: calls of durable tasks become rows of the current transaction.

Called by ``Task.apply_async``. Promises that a row exists if and only if the transaction around it
commits, that no broker is touched, and that all calls of one :func:`collecting` block are written by
one statement.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from worker.context import current_request_id, current_subject
from worker.models import Priority
from worker.sql import statements
from worker.uuid7 import uuid7


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a durable task. ``countdown`` is in seconds from the database's now; ``eta`` wins over it."""

    name: str
    queue: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    priority: int = Priority.NORMAL
    countdown: float = 0
    eta: datetime | None = None
    unique_key: str | None = None
    id: UUID = field(default_factory=uuid7)
    subject: str | None = field(default_factory=current_subject)
    request_id: str = field(default_factory=current_request_id)


_collected: ContextVar[list[Call] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Iterator[list[Call]]:
    """
    Hold back the calls made in this block and write them in one statement when it ends well.

    Yields the calls so far, in order. An inner block adds to the outer one's calls. If the block
    raises, its calls are dropped.
    """
    outer = _collected.get()
    if outer is not None:
        yield outer
        return
    calls: list[Call] = []
    token = _collected.set(calls)
    try:
        yield calls
    finally:
        _collected.reset(token)
    if calls:
        _insert(calls)


def enqueue(call: Call) -> None:
    """
    Record ``call`` in the current transaction, or in one of its own where there is none.

    A second call with a ``unique_key`` that the ledger knows is not recorded.

    Raises:
        TypeError: an argument is not JSON.
    """
    collected = _collected.get()
    if collected is None:
        _insert([call])
    else:
        collected.append(call)


def _insert(calls: list[Call]) -> None:
    sql = statements(connection.vendor)
    parameters: list[Any] = []
    for call in calls:
        parameters += (
            call.id if connection.vendor == "postgresql" else call.id.hex,
            call.name,
            call.queue,
            call.priority,
            _json(call, call.args),
            _json(call, call.kwargs),
            call.subject,
            call.request_id,
            call.unique_key,
            connection.ops.adapt_datetimefield_value(call.eta) if call.eta else None,
            call.countdown,
        )
    with connection.cursor() as cursor:
        cursor.execute(sql.enqueue.format(rows=",".join([sql.enqueue_row] * len(calls))), parameters)


def _json(call: Call, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"The arguments of {call.name} must be JSON, such as ids and strings: {error}. "
            f"Pass an object's id and load it in the task."
        ) from None
