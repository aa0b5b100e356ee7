"""
Stamps that are revoked: calls that carry one of them, now or later, do not run.

Celery's workers keep them in memory. Here they are rows, for as long as ended tasks are kept.
"""

import json
from collections.abc import Collection, Mapping
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


def revoke(stamps: Mapping[str, Any]) -> None:
    """Have calls not run that carry one of ``stamps``: of each name one value, or several."""
    RevokedStamp.objects.filter(revoked_at__lt=Now() - timedelta(days=conf.RETENTION_DAYS.value)).delete()
    rows = [RevokedStamp(name=name, value=value) for name, values in stamps.items() for value in _as_texts(values)]
    RevokedStamp.objects.bulk_create(rows, ignore_conflicts=True)


def are_revoked(stamps: Mapping[str, Any]) -> bool:
    """Whether a call that carries these stamps is not to run."""
    said = [Q(name=name, value__in=_as_texts(values)) for name, values in stamps.items()]
    return RevokedStamp.objects.filter(Q(*said, _connector=Q.OR)).exists() if said else False


def carriers(stamps: Mapping[str, Any], statuses: Collection[str]) -> list[UUID]:
    """Return the rows of these statuses that carry one of ``stamps``."""
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
