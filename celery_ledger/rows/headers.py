"""
Headers of chords made of calls instead of signatures: the calls of a block, awaited together.

Until they are written, a header is part of its calls and shares their fate: a call that is rolled back is not waited
for, and the chord is written together with the calls, in the same round trip.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from celery import Signature

from celery_ledger.databases import connection
from celery_ledger.rows import canvases
from celery_ledger.rows.calls import Call, arguments_as_json
from celery_ledger.rows.sql import statements
from celery_ledger.trips import planned
from celery_ledger.uuid7 import uuid7


@dataclass(frozen=True, eq=False)
class Header:
    """The calls that a body waits for; without a body, calls that join an existing chord."""

    id: UUID = field(default_factory=uuid7)
    canvas: UUID = field(default_factory=uuid7)
    #: A Celery signature.
    body: Any = None
    text: str = ""


def of(body: Any) -> Header:
    """
    Return the header of a chord that is about to start.

    Raises:
        TypeError, ValueError: ``body`` is not a signature, not JSON, or too large.
    """
    if not isinstance(body, Signature):
        raise TypeError(f"The body of a chord is a signature, such as task.si(), and not {body!r}.")
    body = body.clone()
    body.freeze(str(uuid7()))
    return Header(body=body, text=arguments_as_json("a chord", body, what="body"))


def add(header: Header, calls: list[Call], first: int) -> None:
    """
    Make the calls from ``first`` on members of a header, in order.

    Calls that belong to a chain, group or chord of their own stay as they are.
    """
    for place in range(first, len(calls)):
        call = calls[place]
        options = json.loads(call.options) if call.options else {}
        if canvases.KEY in options:
            continue
        options[canvases.KEY] = {"chord": True, "group_id": str(header.id), "id": header.canvas.hex}
        if header.text:
            options[canvases.KEY]["group_index"] = place - first
        calls[place] = replace(call, options=json.dumps(options), canvas=header.canvas, header=header)


def sizes(calls: Iterable[Call]) -> dict[Header, int]:
    """Return the number of these calls in each header."""
    counts: dict[Header, int] = {}
    for call in calls:
        if call.header is not None:
            counts[call.header] = counts.get(call.header, 0) + 1
    return counts


def write(counts: Mapping[Header, int]) -> None:
    """Write chords that wait for a number of calls, in the current transaction; existing chords wait for more."""
    ordered = sorted(counts.items(), key=lambda pair: pair[0].id)
    with planned() as cursor:
        if connection.vendor == "postgresql":
            parameters: dict[str, Any] = {
                "ids": [header.id for header, _ in ordered],
                "bodies": [header.text for header, _ in ordered],
                "sizes": [count for _, count in ordered],
                "canvases": [header.canvas for header, _ in ordered],
            }
        else:
            rows = [[header.id.hex, header.text, count, header.canvas.hex] for header, count in ordered]
            parameters = {"chords": json.dumps(rows)}
        cursor.execute(statements(connection.vendor).chords, parameters)
