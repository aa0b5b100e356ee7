"""
Revoked stamps: calls that carry one, now or later, do not run. A canvas is a stamp of all its calls.

Celery's workers keep them in memory. Here they are rows, kept for as long as ended tasks.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery.utils.functional import maybe_list
from django.db.models import Q
from django.db.models.functions import Now

from celery_ledger import conf
from celery_ledger.models import DurableTask, RevokedStamp
from celery_ledger.rows import canvases
from celery_ledger.walking import walk

#: The stamp that every call of a canvas carries implicitly.
CANVAS = "celery_ledger.canvas"


def revoke(stamps: Mapping[str, Any]) -> None:
    """Revoke calls that carry one of ``stamps``: one value, or several, for each name."""
    RevokedStamp.objects.filter(revoked_at__lt=Now() - timedelta(days=conf.RETENTION_DAYS.value)).delete()
    rows = [RevokedStamp(name=name, value=value) for name, values in stamps.items() for value in _as_texts(values)]
    RevokedStamp.objects.bulk_create(rows, ignore_conflicts=True)


def are_revoked(stamps: Mapping[str, Any]) -> bool:
    """Whether calls with these stamps are revoked."""
    said = [Q(name=name, value__in=_as_texts(values)) for name, values in stamps.items()]
    return RevokedStamp.objects.filter(Q(*said, _connector=Q.OR)).exists() if said else False


def revoke_canvas(id: UUID) -> None:
    """Stop a canvas: nothing more follows in it."""
    revoke({CANVAS: id.hex})


def allow_canvases(ids: Collection[UUID]) -> None:
    """Undo :func:`revoke_canvas`."""
    RevokedStamp.objects.filter(name=CANVAS, value__in=_as_texts([id.hex for id in ids])).delete()


def revoked_canvases(ids: Iterable[UUID]) -> set[UUID]:
    """Return the canvases that are stopped."""
    said = {text: id for id in ids for text in _as_texts(id.hex)}
    found = RevokedStamp.objects.filter(name=CANVAS, value__in=said).values_list("value", flat=True)
    return {said[text] for text in found}


def carriers(stamps: Mapping[str, Any], statuses: Collection[str]) -> list[UUID]:
    """Return the rows with these statuses that carry one of ``stamps``."""
    wanted = {name: set(_as_texts(values)) for name, values in stamps.items()}
    stamped = DurableTask.objects.filter(status__in=statuses, options__canvas__stamps__isnull=False)
    found = []
    for row in walk(stamped.only("id", "options")):
        carried = canvases.of(row.options).get("stamps") or {}
        if any(wanted.get(name, set()) & set(_as_texts(values)) for name, values in carried.items()):
            found.append(row.id)
    return found


def _as_texts(values: Any) -> list[str]:
    return [json.dumps(value, default=str, sort_keys=True)[:255] for value in maybe_list(values) or [None]]
