"""
The row that stands for a call whose ``unique_key`` is taken.

Two unique indexes decide whether a call becomes a row, ``ledger_unique_key`` and ``ledger_standing_key``; nothing is
looked up beforehand. Asked afterwards about calls that did not become rows, this module may find their keys free by
then. Such calls are written again, and the indexes decide again.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import DateTimeField, ExpressionWrapper, F, Q, Value
from django.db.models.functions import Least, Now

from celery_ledger.databases import atomic, connection
from celery_ledger.models import DurableTask
from celery_ledger.rows.calls import Call

Status, UniqueFor = DurableTask.Status, DurableTask.UniqueFor
#: The condition of the index ``ledger_standing_key``.
WAITS: Final = Q(unique_for=UniqueFor.PENDING, status=Status.PENDING, published_at__isnull=True)
IS_OPEN: Final = Q(unique_for=UniqueFor.DONE, status__in=[Status.PENDING, Status.PUBLISHED, Status.RUNNING])
#: At most this many keys per query.
MOST_KEYS: Final = 500
# A shared lock, so that callers of the same task do not wait for each other; the relay skips locked rows.
_SHARE = """
    SELECT id, standing_key FROM celery_ledger_durabletask
    WHERE standing_key = ANY(%s) AND unique_for = 'pending' AND status = 'pending' AND published_at IS NULL
    ORDER BY standing_key FOR SHARE
"""


def standing(calls: Sequence[Call], *, wait: bool = False) -> dict[UUID, UUID]:
    """
    Return the rows that stand for ``calls``, by the calls' ids; omit calls whose keys are free.

    A pending row stays pending until the current transaction ends, so that its body sees what the caller wrote; if the
    call replaces it, the row holds what the last such call says. Rows that another process holds are left out as well,
    unless ``wait`` is true: then the caller waits, for a moment, for the relay that holds the row.
    """
    waiting = {call.unique_key for call in calls if call.unique_for == UniqueFor.PENDING and not call.replaces}
    last = {call.unique_key: call for call in calls if call.replaces and call.unique_key is not None}
    held = _hold(waiting, wait=wait) if _can_hold() else _look("standing_key", WAITS, waiting)
    for key in sorted(last):
        if (id := _replace(last[key], wait=wait)) is not None:
            held[key] = id
    held |= _look("standing_key", IS_OPEN, {call.standing_key for call in calls} - held.keys())
    done = {call.standing_key for call in calls if call.unique_for == UniqueFor.DONE}
    held |= _look("standing_key", WAITS, done - held.keys())

    keys = {call.kept_key for call in calls}
    kept = _look("unique_key", Q(unique_until__isnull=True) | Q(unique_until__gt=Now()), keys)
    for key in sorted(filter(None, keys - kept.keys())):
        DurableTask.objects.filter(unique_key=key, unique_until__lte=Now()).update(unique_key=None)

    ids = {call.id: (kept if call.unique_for is None else held).get(call.unique_key or "") for call in calls}
    return {call: id for call, id in ids.items() if id is not None}


def is_for(id: UUID, key: str) -> bool:
    """Whether the row ``id`` stands for ``key``."""
    return DurableTask.objects.filter(Q(unique_key=key) | (WAITS | IS_OPEN) & Q(standing_key=key), pk=id).exists()


def _replace(call: Call, *, wait: bool) -> UUID | None:
    """Update the waiting row that holds a call's key from ``call``, and return its id; None if there is none."""
    rows = DurableTask.objects.filter(WAITS, standing_key=call.unique_key)
    changes = {
        "name": call.name,
        "queue": call.queue,
        "priority": call.priority,
        "args": json.loads(call.args),
        "kwargs": json.loads(call.kwargs),
        "options": None if call.options is None else json.loads(call.options),
        "subject": call.subject,
        "request_id": call.request_id,
        "available_at": _due_at(call),
        "expires_at": None if call.expires is None else _moment(call.expires),
        "unknown_since": None,
    }
    with atomic():
        if connection.vendor == "postgresql":
            ids = list(rows.select_for_update(skip_locked=not wait).values_list("id", flat=True))
            rows.filter(id__in=ids).update(**changes)
        else:  # The first writer is its only writer.
            ids = list(rows.values_list("id", flat=True)) if rows.update(**changes) else []
        if not ids:
            connection.set_rollback(True)  # A row that was just taken is still locked until this point.
        return ids[0] if ids else None


def _can_hold() -> bool:
    """SQLite has one writer, and the INSERT made us that; without a transaction there is no end to hold a row until."""
    return bool(connection.vendor == "postgresql" and connection.in_atomic_block)


def _hold(keys: Iterable[str | None], *, wait: bool) -> dict[str, UUID]:
    """Lock the rows that wait for ``keys`` against relays, and return them; none unless every key has one."""
    keys = list(keys)
    if not keys:
        return {}
    with atomic():
        rows = list(DurableTask.objects.raw(_SHARE if wait else f"{_SHARE} SKIP LOCKED", [keys]))
        if len(rows) < len(keys):
            connection.set_rollback(True)  # As above.
            return {}
    return {str(row.standing_key): row.id for row in rows}


def _look(column: str, condition: Q, keys: Iterable[str | None]) -> dict[str, UUID]:
    """Return the rows with ``keys`` in ``column`` that meet ``condition``."""
    found: dict[str, UUID] = {}
    wanted = [key for key in keys if key is not None]
    for start in range(0, len(wanted), MOST_KEYS):
        rows = DurableTask.objects.filter(condition, **{f"{column}__in": wanted[start : start + MOST_KEYS]})
        found.update(rows.values_list(column, "id"))
    return found


def _due_at(call: Call) -> Any:
    """Return the due time of a call's row: as requested, but at most ``at_most`` after the first call."""
    moment = _moment(call.countdown if call.eta is None else call.eta)
    if call.at_most is None:
        return moment
    latest = ExpressionWrapper(F("created_at") + timedelta(seconds=call.at_most), DateTimeField())
    return Least(Value(moment, DateTimeField()) if isinstance(moment, datetime) else moment, latest)


def _moment(when: datetime | float) -> Any:
    return when if isinstance(when, datetime) else Now() + timedelta(seconds=when)
