"""
Ids of rows, and of calls that chose their own.

A row's id is a UUID. Celery's ``task_id`` may be any text: if it is not a UUID, the row's id is a UUID derived from it,
always the same. The row keeps the text, which is the id of the call in the body and in results.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid5

#: Permanent: it is how rows of calls with their own ids are found.
_NAMESPACE: Final = UUID("6f0c2f1e-6a0b-5d0c-9d1e-3b6f9c1f7a52")


def row_id(task_id: Any) -> UUID:
    """Return the row id for a call with this id."""
    if isinstance(task_id, UUID):
        return task_id
    text = str(task_id)
    try:
        return UUID(text)
    except ValueError:
        return uuid5(_NAMESPACE, text)


def call_id(id: Any, options: Mapping[str, Any] | None) -> str:
    """Return the call id for a row with this id and these options: the same, unless the call chose its own."""
    return str((options or {}).get("task_id") or id)
