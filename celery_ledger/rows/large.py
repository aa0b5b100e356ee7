"""
Large results that are passed on: rows contain references to them.

The results of a chord's members are kept in their parts; a body's row that would be large refers to the chord instead.
A large value that is passed to a chain's next step or to a link is kept once, in a row of its own. Both are read when
the row is taken to be run.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models import Func, IntegerField, Sum
from kombu.utils.json import register_type

from celery_ledger import conf
from celery_ledger.databases import connection
from celery_ledger.models import Chord, LargeResult, Part
from celery_ledger.rows import arguments, canvases
from celery_ledger.rows.calls import arguments_as_json
from celery_ledger.uuid7 import uuid7

#: The key by which JSON refers to what is kept here.
MARK: Final = "celery_ledger.large"
#: How many characters of JSON one task may pass on.
MOST_CHARACTERS: Final = 64 * 1024 * 1024
_RESULT, _CHORD = "result", "chord"


@dataclass(frozen=True)
class Reference:
    """A placeholder among a row's arguments for a result, or for all results of a chord's members."""

    kind: str
    id: UUID

    def as_list(self) -> list[str]:
        """Return it as a JSON list."""
        return [self.kind, self.id.hex]

    @classmethod
    def read(cls, said: list[str]) -> "Reference":
        """Return the reference from the output of :meth:`as_list`."""
        return cls(said[0], UUID(said[1]))


register_type(Reference, MARK, Reference.as_list, Reference.read)


def to_be_given(name: str, value: Any) -> Any:
    """
    Return the value to pass on for the result of task ``name``: a reference if it is large.

    Raises:
        TypeError, ValueError: the value is not JSON, or too large.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    most = conf.LARGE_RESULT.value
    text = arguments_as_json(name, value, what="result", most=MOST_CHARACTERS)
    if len(text) <= most and len(text.encode()) <= most:
        return value
    id = uuid7()
    LargeResult.objects.create(id=id, value=text, canvas=canvases.current() or id)
    return Reference(_RESULT, id)


def results_to_be_given(chord: Chord) -> Any:
    """Return the argument for the body of a complete chord: its members' results, or a reference to large ones."""
    length = "octet_length" if connection.vendor == "postgresql" else "length"
    size = Sum(Func("value", function=length, output_field=IntegerField()))
    if Part.objects.filter(chord=chord.id).aggregate(size=size)["size"] > conf.LARGE_RESULT.value:
        return Reference(_CHORD, chord.id)
    return results_of(chord)


def results_of(chord: Chord) -> list[Any]:
    """Return the results of a chord's members, in order and with their nesting."""
    parts = Part.objects.filter(chord=chord.id).order_by("place", "id").values_list("task", "value").iterator(2_000)
    values = {task: arguments.read(text) for task, text in parts}
    if chord.shape is None:
        return list(values.values())

    def nested(shape: Any) -> Any:
        return [nested(inner) for inner in shape] if isinstance(shape, list) else values.get(UUID(shape))

    results: list[Any] = nested(json.loads(chord.shape))
    return results


def read(references: Collection[Reference]) -> dict[Reference, Any]:
    """Return the stored values of references."""
    known = LargeResult.objects.filter(id__in=[one.id for one in references if one.kind == _RESULT])
    found = {Reference(_RESULT, id): arguments.read(text) for id, text in known.values_list("id", "value")}
    chords = Chord.objects.filter(id__in=[one.id for one in references if one.kind == _CHORD])
    return found | {Reference(_CHORD, chord.id): results_of(chord) for chord in chords}


def resolved(args: Any) -> Any:
    """Return arguments with references replaced by their values."""
    references = {argument for argument in args or () if isinstance(argument, Reference)}
    if not references:
        return args
    found = read(references)
    return [found.get(one, one) if isinstance(one, Reference) else one for one in args]
