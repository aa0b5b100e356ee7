"""
Announcements of bulk writes, for which Django sends no signals.

Called by the import and by bulk edits, in the transaction that writes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

from django.db.models import Model

from store.signals import catalogue_changed

Thing = TypeVar("Thing", bound=Model)

#: How many changes are announced together.
BATCH: Final = 500


@dataclass(frozen=True)
class Change(Generic[Thing]):
    """A created object (``before`` is empty) or a changed one, with its new column values."""

    thing: Thing
    before: dict[str, Any]
    after: dict[str, Any]


def made(thing: Thing) -> Change[Thing]:
    """Return the change that records the creation of ``thing``."""
    columns = [field.attname for field in thing._meta.concrete_fields]
    return Change(thing, {}, {name: getattr(thing, name) for name in columns})


def announce(model: type[Model], changes: Sequence[Change[Any]]) -> None:
    """Send ``catalogue_changed`` for things of one model, a batch at a time."""
    for start in range(0, len(changes), BATCH):
        batch = changes[start : start + BATCH]
        catalogue_changed.send_robust(
            sender=model,
            model=model._meta.label_lower,
            changes=[[each.thing.pk, _plain(each.before.items()), _plain(each.after.items())] for each in batch],
        )


def _plain(columns: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return columns for JSON: decimals as strings."""
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in columns}
