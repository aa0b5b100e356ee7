"""Writing calls as rows: one INSERT, or one for every few thousand, in the current transaction."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError, OperationalError

from celery_ledger.databases import connection
from celery_ledger.rows import headers
from celery_ledger.rows.calls import Call
from celery_ledger.rows.sql import statements
from celery_ledger.trips import in_one_trip, planned

#: At most this many rows per statement: more would only take more memory, here and in the database.
MOST_ROWS = 2_000
MOST_CHARACTERS = 16 * 1024 * 1024
_SAVEPOINT = "enqueueing"
#: The parameters of ``enqueue`` on PostgreSQL: an array for each column.
COLUMNS = (
    *("ids", "names", "queues", "priorities", "args", "kwargs", "subjects", "request_ids", "unique_keys", "etas"),
    *("countdowns", "expiries", "lifetimes", "options", "standing_keys", "unique_fors", "terms", "canvases"),
)


def portions(calls: Iterable[Call]) -> Iterator[list[Call]]:
    """Divide calls into portions that fit into one statement."""
    portion: list[Call] = []
    characters = 0
    for call in calls:
        length = len(call.args) + len(call.kwargs) + len(call.options or "")
        if portion and (len(portion) == MOST_ROWS or characters + length > MOST_CHARACTERS):
            yield portion
            portion, characters = [], 0
        portion.append(call)
        characters += length
    if portion:
        yield portion


def write_behind_savepoint(calls: Sequence[Call], chords: Mapping[headers.Header, int]) -> set[UUID]:
    """
    Write as :func:`write` does, in a savepoint: the transaction can continue if the database refuses a row.

    On PostgreSQL that takes a savepoint, which is sent with the statement and needs no further round trip.
    """
    if connection.vendor != "postgresql":
        return write(calls, chords)  # SQLite undoes only the statement.
    driver = connection.connection
    with planned() as cursor:
        try:
            with in_one_trip():
                driver.execute(f"SAVEPOINT {_SAVEPOINT}")
                if chords:
                    headers.write(chords)
                cursor.execute(statements(connection.vendor).enqueue, _parameters(calls))
                driver.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        except OperationalError:
            raise  # Trying again would not help: the connection, a lock or the disk failed.
        except DatabaseError:
            cursor.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            raise
        return set(cursor.fetchone()[1])


def write(calls: Sequence[Call], chords: Mapping[headers.Header, int] | None = None) -> set[UUID]:
    """
    Write calls with one statement, and return the ids of the rows written.

    ``chords`` are written before the calls, because each waits for some of them. On PostgreSQL they share one round
    trip.
    """
    with planned() as cursor:
        if len(calls) == 1 and not chords:
            cursor.execute(statements(connection.vendor).enqueue_one, _of_one(calls[0]))
            return {calls[0].id} if cursor.fetchall() else set()
        if connection.vendor == "postgresql":
            with in_one_trip() if chords else nullcontext():
                if chords:
                    headers.write(chords)
                cursor.execute(statements(connection.vendor).enqueue, _parameters(calls))
            return set(cursor.fetchone()[1])
        if chords:
            headers.write(chords)
        cursor.execute(statements(connection.vendor).enqueue, _parameters(calls))
        return {UUID(id) for (id,) in cursor.fetchall()}


def send(calls: Sequence[Call]) -> None:
    """Write calls as :func:`write` does, within the round trip that is being made: nobody asks which were written."""
    with planned() as cursor:
        if len(calls) == 1:
            cursor.execute(statements(connection.vendor).enqueue_one, _of_one(calls[0]))
        else:
            cursor.execute(statements(connection.vendor).enqueue, _parameters(calls))


def _parameters(calls: Sequence[Call]) -> dict[str, Any]:
    rows = [_as_list(call) for call in calls]
    if connection.vendor == "postgresql":
        return {column: _array(values) for column, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    return {"calls": json.dumps(rows, default=_adapted)}


def _array(values: Sequence[Any]) -> list[Any] | None:
    """Return the values of a column; None if none of the rows has one, as PostgreSQL then fills it with NULL."""
    return None if values.count(None) == len(values) else list(values)


def _of_one(call: Call) -> list[Any]:
    row = _as_list(call)
    if connection.vendor == "postgresql":
        return row
    return [_adapted(value) if isinstance(value, (datetime, UUID)) else value for value in row]


def _as_list(call: Call) -> list[Any]:
    """Return the values of one row, in the order of the statements' columns."""
    expires = call.expires
    return [
        call.id,
        call.name,
        call.queue,
        int(call.priority),
        call.args,
        call.kwargs,
        call.subject,
        call.request_id,
        call.kept_key,
        call.eta,
        float(call.countdown),
        None if isinstance(expires, float) else expires,
        expires if isinstance(expires, float) else None,
        call.options,
        call.standing_key,
        call.unique_for,
        call.term,
        call.canvas,
    ]


def _adapted(value: Any) -> Any:
    """Return a moment or an id in the form that SQLite keeps."""
    return value.hex if isinstance(value, UUID) else connection.ops.adapt_datetimefield_value(value)
