"""
The audit trail: who did what, with the values before and after.

Called by receivers.py. An entry about a saved object is written in the transaction of the save, if there is one.
Passwords and other secrets are never recorded: only the models named in :data:`AUDITED` are described.
"""

import json
from collections.abc import Collection as Names
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.db.models import Model
from django.utils import timezone

from audit_trail.models import AuditEntry
from celery_ledger.context import current_actor, current_request_id
from store.models import Collection, Customer, Product, Stock
from webhooks.models import WebhookEndpoint

What = AuditEntry.What
User = get_user_model()
#: Entries per statement.
BATCH: Final = 500
#: Models whose every save, deletion and change of relations is recorded.
AUDITED: Final = (Collection, Product, Stock, WebhookEndpoint)
#: Columns that are never described, in any model.
SECRET: Final = frozenset({"secret", "previous_secret"})
#: Models whose deletions are recorded, without the deleted values: these are personal.
DELETIONS_AUDITED: Final = (User, Group, Customer)
#: Models whose changes of many-to-many relations are recorded: above all, permissions.
LINKS_AUDITED: Final = (*AUDITED, User, Group)


def write(
    what: AuditEntry.What,
    thing: Model,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    who: int | None = None,
) -> None:
    """Add an entry about ``thing``; ``who`` did it, by default the user of the current request."""
    AuditEntry.objects.create(
        who_id=current_actor() if who is None else who,
        what=what,
        model=thing._meta.label_lower,
        object_id=str(thing.pk or ""),
        before=_plain(before or {}),
        after=_plain(after or {}),
        request_id=current_request_id(),
    )


def write_in_bulk(
    model: str, changes: Iterable[tuple[Any, dict[str, Any], dict[str, Any]]], who: int | None = None
) -> None:
    """Add an entry for each id, before and after, in few statements; ``who`` did it, by default as in :func:`write`."""
    who, request_id = current_actor() if who is None else who, current_request_id()
    AuditEntry.objects.bulk_create(
        (
            AuditEntry(
                who_id=who,
                what=What.CHANGED if before else What.CREATED,
                model=model,
                object_id=str(id),
                before=before,
                after=after,
                request_id=request_id,
            )
            for id, before, after in changes
        ),
        batch_size=BATCH,
    )


def write_of_all(
    model: str, ids: Sequence[str], *, before: dict[str, Any], after: dict[str, Any], who: int | None = None
) -> None:
    """Add the same entry for each id, as :func:`write_in_bulk` does, with plain SQL: there may be a million."""
    if connection.vendor != "postgresql":
        write_in_bulk(model, ((id, before, after) for id in ids), who=who)
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO core_auditentry (at, who_id, what, model, object_id, before, after, request_id)
            SELECT %(at)s, %(who)s, %(what)s, %(model)s, unnest(%(ids)s::text[]), %(before)s::jsonb, %(after)s::jsonb,
                   %(request_id)s
            """,
            {
                "at": timezone.now(),
                "who": current_actor() if who is None else who,
                "what": What.CHANGED.value,
                "model": model,
                "ids": list(ids),
                "before": json.dumps(before),
                "after": json.dumps(after),
                "request_id": current_request_id(),
            },
        )


def prune(*, older_than: timedelta) -> Iterator[int]:
    """
    Delete older entries in batches; yield the number deleted in each.

    Entries about placed and cancelled orders are kept: ``outbox verify`` needs them.
    """
    old = AuditEntry.objects.filter(at__lt=timezone.now() - older_than).exclude(
        model="store.order", what__in=[What.PLACED, What.CANCELLED]
    )
    last = 0
    while ids := list(old.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    # Set until the end of the transaction; the trigger checks it.
                    cursor.execute("SELECT set_config('shopwire.prune_audit_trail', 'on', true)")
            entries = AuditEntry.objects.filter(pk__in=ids)
            entries._raw_delete(entries.db)
        last = ids[-1]
        yield len(ids)


def describe(thing: Model, fields: Names[str] | None = None) -> dict[str, Any]:
    """Return the columns of ``thing``, or those in ``fields``."""
    return {
        field.attname: getattr(thing, field.attname)
        for field in thing._meta.concrete_fields
        if field.name not in SECRET and (fields is None or field.name in fields or field.attname in fields)
    }


def read_back(thing: Model, fields: Names[str] | None = None) -> dict[str, Any]:
    """Return the columns of ``thing`` as stored: assigned values may be expressions or text."""
    saved = type(thing)._base_manager.filter(pk=thing.pk).first()
    return describe(saved or thing, fields)


def write_admin_action(entry: LogEntry) -> None:
    """Record an action that the admin logged, without the names and values that its message may contain."""
    kind = entry.content_type
    AuditEntry.objects.create(
        who_id=entry.user_id,
        what=What.ADMIN,
        model=f"{kind.app_label}.{kind.model}" if kind else "",
        object_id=str(entry.object_id or "")[:64],
        after={"action": entry.get_action_flag_display(), "fields": sorted(_changed_fields(entry))},
        request_id=current_request_id(),
    )


def _changed_fields(entry: LogEntry) -> set[str]:
    """Return the names of the form fields that the admin logged as changed."""
    try:
        steps = json.loads(entry.change_message or "[]")
    except ValueError:
        return set()
    if not isinstance(steps, list):
        return set()
    return {field for step in steps if isinstance(step, dict) for field in step.get("changed", {}).get("fields", [])}


def differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values that differ between ``old`` and ``new``."""
    names = [name for name in new if old.get(name) != new[name]]
    return {name: old.get(name) for name in names}, {name: new[name] for name in names}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` for JSON: decimals and times as strings."""
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    return DjangoJSONEncoder().default(value)
