"""
The audit trail: who did what, with what it was before and after.

Called by receivers.py. An entry about something that is saved is written in the transaction of the save
where there is one. Passwords and other secrets never get here: only the models named in
:data:`AUDITED` are described.
"""

import json
from collections.abc import Collection as Names
from collections.abc import Iterable
from typing import Any, Final

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from core.models import AuditEntry, User
from store.models import Collection, Customer, Product, Stock
from worker.context import current_actor, current_request_id

What = AuditEntry.What
#: Entries a statement.
BATCH: Final = 500
#: Whose every save, deletion and change of relations is on record.
AUDITED: Final = (Collection, Product, Stock)
#: Of whom it is on record that they are gone, without what they were: that is personal.
DELETIONS_AUDITED: Final = (User, Group, Customer)
#: Whose many-to-many relations are: above all, who may do what.
LINKS_AUDITED: Final = (*AUDITED, User, Group)


def write(
    what: AuditEntry.What,
    thing: Model,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    who: int | None = None,
) -> None:
    """Add an entry about ``thing``; ``who`` did it, by default the one whose request this is."""
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


def describe(thing: Model, fields: Names[str] | None = None) -> dict[str, Any]:
    """Return the columns of ``thing``, or those in ``fields``."""
    return {
        field.attname: getattr(thing, field.attname)
        for field in thing._meta.concrete_fields
        if fields is None or field.name in fields or field.attname in fields
    }


def read_back(thing: Model, fields: Names[str] | None = None) -> dict[str, Any]:
    """Return the columns of ``thing`` as the database has them: what was assigned may be an expression or text."""
    saved = type(thing)._base_manager.filter(pk=thing.pk).first()
    return describe(saved or thing, fields)


def write_admin_action(entry: LogEntry) -> None:
    """Add what the admin says that somebody did, without the names and values that its message may carry."""
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
    """Return the names of the form's fields that the admin says were changed."""
    try:
        steps = json.loads(entry.change_message or "[]")
    except ValueError:
        return set()
    if not isinstance(steps, list):
        return set()
    return {field for step in steps if isinstance(step, dict) for field in step.get("changed", {}).get("fields", [])}


def differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of ``old`` and ``new`` is not the same in both."""
    names = [name for name in new if old.get(name) != new[name]]
    return {name: old.get(name) for name in names}, {name: new[name] for name in names}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` as JSON has them: decimals and times as strings."""
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    return DjangoJSONEncoder().default(value)
