"""
Chords: a body that is called when every member of a header has succeeded.

Only a counter decides when. It is lowered in the transaction that completes a member, by the number of parts that are
new in that transaction, in the order of the chords' ids, and as the last statement before the body's call. So a member
that is delivered twice counts once, one that is rolled back does not count, and two transactions never deadlock.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from celery.result import GroupResult
from django.db.models import F
from django.db.models.functions import Now
from kombu.utils.json import register_type

from celery_ledger.databases import connection
from celery_ledger.ids import row_id
from celery_ledger.models import Chord
from celery_ledger.rows import arguments, canvases, large
from celery_ledger.rows.calls import arguments_as_json
from celery_ledger.rows.sql import statements
from celery_ledger.rows.taken import as_uuid
from celery_ledger.trips import in_one_trip, planned

#: The key by which JSON refers to what is kept here.
MARK: Final = "celery_ledger.chord"


class Body(dict[str, Any]):
    """
    The body of a chord, as its members refer to it: by reference, also as JSON.

    It is read from the ledger on first access.
    """

    def __init__(self, group_id: str) -> None:
        super().__init__(__type__=MARK, __value__=group_id)

    @property
    def signature(self) -> dict[str, Any]:
        """
        The signature itself.

        Raises:
            LookupError: the chord no longer exists.
        """
        body = body_of(self["__value__"])
        if body is None:
            raise LookupError(f"The ledger has no chord {self['__value__']} any more.")
        return body

    def __missing__(self, name: str) -> Any:
        return self.signature[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value from the signature."""
        if name in self:
            return self[name]
        with suppress(LookupError):
            return self.signature.get(name, default)
        return default

    def __deepcopy__(self, memo: Any) -> "Body":
        return self


register_type(Body, MARK, lambda body: body["__value__"], Body)


@dataclass(frozen=True)
class Done:
    """The result of a chord's member, as JSON."""

    chord: UUID
    task: UUID
    place: int
    value: str
    #: As Celery names them: its call's id, and that of the call with which it all began.
    id: str
    root: str
    #: The object it was about.
    subject: str | None = None
    request_id: str = ""


@dataclass(frozen=True)
class Complete:
    """A chord that has all its parts."""

    id: UUID
    canvas: UUID
    body: dict[str, Any]
    #: The members' results in order, or a reference to them; None if the body does not receive them.
    results: Any
    #: Whether the whole chord was cancelled.
    is_revoked: bool
    #: The member that completed the chord.
    last: Done


def keep(group_id: str, body: Any, results: Sequence[Any], size: int) -> None:
    """
    Write a chord whose header is about to be called, in the current transaction; keep an existing one.

    ``results`` are the handles of the header's tasks; if they are nested, the body's argument is nested likewise.

    Raises:
        TypeError, ValueError: the body is not JSON, or too large.
    """
    id = row_id(group_id)
    shape = None
    if any(isinstance(result, GroupResult) for result in results):
        shape = json.dumps([_shape_of(result) for result in results])
    Chord.objects.bulk_create(
        [
            Chord(
                id=id,
                body=arguments_as_json("a chord", body, what="body"),
                shape=shape,
                size=size,
                missing=size,
                canvas=canvases.current() or id,
            )
        ],
        ignore_conflicts=True,
    )


def _shape_of(result: Any) -> Any:
    if isinstance(result, GroupResult):
        return [_shape_of(inner) for inner in result.results]
    return str(result.id)


def body_of(group_id: str) -> dict[str, Any] | None:
    """Return the body of a chord; None: the chord does not exist."""
    text = Chord.objects.filter(id=row_id(group_id)).values_list("body", flat=True).first()
    return None if text is None else arguments.read(text)


def bodies_of(group_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the bodies of those of these chords that exist."""
    given = {row_id(group_id): group_id for group_id in group_ids}
    found = Chord.objects.filter(id__in=given).values_list("id", "body")
    return {given[id]: arguments.read(text) for id, text in found}


def is_known(group_id: str) -> bool:
    """Whether the ledger has this chord."""
    return Chord.objects.filter(id=row_id(group_id)).exists()


def extend(group_id: str, by: int = 1) -> bool:
    """Make a chord wait for more parts, in the current transaction; False if it does not exist."""
    chord = Chord.objects.filter(id=row_id(group_id))
    return chord.update(size=F("size") + by, missing=F("missing") + by) == 1


def add(parts: Sequence[Done], first: Callable[[], None]) -> Iterator[Complete]:
    """
    Add members' results, in the transaction that completes them; yield chords that are now complete.

    This is the last statement of the transaction, except for the calls that follow: from here to the commit, other
    members of these chords wait. ``first`` is written before that, on PostgreSQL in the same round trip.
    """
    ordered = sorted(parts, key=lambda part: (part.chord, part.task))
    last = {part.chord: part for part in parts}
    for chord, is_revoked in _add(ordered, first):
        body = arguments.read(chord.body)
        results = None if _wants_none(body) else large.results_to_be_given(chord)
        yield Complete(chord.id, chord.canvas, body, results, is_revoked, last[chord.id])


def _wants_none(body: Mapping[str, Any]) -> bool:
    """Whether a body is a single task that already has all its arguments."""
    return bool(body.get("immutable")) and not body.get("subtask_type")


def _add(parts: Sequence[Done], first: Callable[[], None]) -> list[tuple[Chord, bool]]:
    """Add results as :func:`add` does; return chords that are now complete, and whether each is revoked."""
    sql = statements(connection.vendor)
    with planned() as cursor, planned() as looking:
        if connection.vendor == "postgresql":
            parameters: dict[str, Any] = {
                "chords": [part.chord for part in parts],
                "tasks": [part.task for part in parts],
                "places": [part.place for part in parts],
                "values": [part.value for part in parts],
            }
            with in_one_trip():
                first()
                cursor.execute(sql.parts[0], parameters)
                looking.execute(sql.whole, {"chords": list({part.chord for part in parts})})
            complete = {id for id, missing in cursor.fetchall() if missing == 0}
            found = looking.fetchall()
        else:
            first()
            given = [[part.chord.hex, part.task.hex, part.place, part.value] for part in parts]
            cursor.execute(sql.parts[0], {"parts": json.dumps(given)})
            cursor.execute(sql.parts[1], {"new": json.dumps([chord for (chord,) in cursor.fetchall()])})
            complete = {UUID(id) for id, missing in cursor.fetchall() if missing == 0}
            looking.execute(sql.whole, {"chords": json.dumps([id.hex for id in complete])})
            found = looking.fetchall()
    chords = [
        (Chord(id=as_uuid(id), canvas=as_uuid(canvas), body=body, shape=shape), bool(revoked))
        for id, canvas, body, shape, revoked in found
    ]
    return [(chord, is_revoked) for chord, is_revoked in chords if chord.id in complete]


def fail(group_ids: Iterable[str]) -> list[tuple[Chord, str]]:
    """
    Mark chords as failed, in the current transaction; return those that were not yet.

    The chords are locked in the order of their ids, as in :func:`add`. If the failed member is replayed and succeeds,
    its chord is still completed.
    """
    given = {row_id(group_id): group_id for group_id in group_ids}
    new = Chord.objects.filter(id__in=given, failed_at=None).order_by("id")
    found = list(new.select_for_update().only("id", "canvas"))
    Chord.objects.filter(id__in=[chord.id for chord in found]).update(failed_at=Now())
    return [(chord, given[chord.id]) for chord in found]
