"""
Receivers that write audit entries. Connected in apps.py.

Entries about the catalogue are written at once, in the transaction of the change; an error undoes the change. Orders
are recorded by a durable batched task, so that the checkout stays short.
"""

from collections.abc import Collection
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.utils import timezone

from audit_trail import audit, tasks
from audit_trail.models import AuditEntry
from celery_ledger.context import current_actor, current_request_id
from store.models import Order

What = AuditEntry.What


def notice_old_values(
    sender: type[Model], instance: Model, raw: bool, update_fields: Collection[str] | None = None, **kwargs: Any
) -> None:
    """A catalogue item is about to be saved: remember its values."""
    if raw or instance._state.adding:
        return
    old = sender._base_manager.filter(pk=instance.pk).first()
    vars(instance)["_audited"] = audit.describe(old, update_fields) if old else {}


def record_save(
    sender: type[Model],
    instance: Model,
    created: bool,
    raw: bool,
    update_fields: Collection[str] | None = None,
    **kwargs: Any,
) -> None:
    """A catalogue item was saved: record its changes, if any."""
    old = vars(instance).pop("_audited", {})
    if raw:
        return
    if created:
        audit.write(What.CREATED, instance, after=audit.describe(instance))
        return
    before, after = audit.differences(old, audit.read_back(instance, update_fields))
    if after:
        audit.write(What.CHANGED, instance, before=before, after=after)


def record_bulk_changes(
    sender: object, model: str, changes: list[tuple[Any, dict[str, Any], dict[str, Any]]], **kwargs: Any
) -> None:
    """Catalogue items were written in bulk: record each."""
    audit.write_in_bulk(model, changes)


def notice_deletion(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    """A catalogue item is about to be deleted: remember its stored values."""
    old = sender._base_manager.filter(pk=instance.pk).first()
    vars(instance)["_audited"] = audit.describe(old or instance)


def record_deletion(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    """A catalogue item or a user was deleted: record which item, or that a user was deleted."""
    audit.write(What.DELETED, instance, before=vars(instance).pop("_audited", {}))


def record_links(
    sender: type[Model], instance: Model, action: str, model: type[Model], pk_set: set[Any] | None, **kwargs: Any
) -> None:
    """Many-to-many relations changed: record which."""
    if not isinstance(instance, audit.LINKS_AUDITED):
        return
    if action == "pre_clear":
        vars(instance)["_cleared"] = _linked(sender, instance)
    elif action == "post_clear":
        cleared = vars(instance).pop("_cleared", [])
        audit.write(What.UNLINKED, instance, before={model._meta.label_lower: cleared})
    elif pk_set and action in {"post_add", "post_remove"}:
        linked = {model._meta.label_lower: sorted(pk_set)}
        if action == "post_add":
            audit.write(What.LINKED, instance, after=linked)
        else:
            audit.write(What.UNLINKED, instance, before=linked)


def enqueue_placed_entry(sender: object, order: Order, **kwargs: Any) -> None:
    """An order is placed: enqueue its audit entry."""
    tasks.record_order_event.delay(_event(What.PLACED, order))


def enqueue_cancelled_entry(sender: object, order: Order, **kwargs: Any) -> None:
    """Record a cancelled order in the audit trail."""
    tasks.record_order_event.delay(_event(What.CANCELLED, order))


def record_login(sender: object, user: Any, **kwargs: Any) -> None:
    """A user signed in: record it."""
    audit.write(What.LOGGED_IN, user, who=user.pk)


def record_replay(
    sender: object, ids: list[str], who: int | None, edited: dict[str, Any] | None = None, **kwargs: Any
) -> None:
    """Dead tasks are replayed: record by whom, and which arguments were changed."""
    changes = edited or {"before": {}, "after": {}}
    before = {"status": "dead"} | changes["before"]
    after = {"status": "pending"} | changes["after"]
    audit.write_of_all("celery_ledger.durabletask", ids, before=before, after=after, who=who)


def record_discard(sender: object, ids: list[str], reason: str, who: int | None, **kwargs: Any) -> None:
    """Dead tasks are discarded: record by whom and why."""
    after = {"status": "cancelled", "reason": reason}
    audit.write_of_all("celery_ledger.durabletask", ids, before={"status": "dead"}, after=after, who=who)


def record_cancelling(sender: object, tasks: list[list[str]], reason: str, who: int | None, **kwargs: Any) -> None:
    """Waiting or running tasks are cancelled: record by whom and why."""
    after = {"status": "cancelled", "reason": reason}
    audit.write_in_bulk("celery_ledger.durabletask", ((id, {"status": status}, after) for id, status in tasks), who=who)


def record_hastening(sender: object, tasks: list[list[str]], reason: str, who: int | None, **kwargs: Any) -> None:
    """Scheduled tasks are run now: record by whom, and why if a reason was given."""
    after = {"due": "now"} | ({"reason": reason} if reason else {})
    audit.write_in_bulk("celery_ledger.durabletask", ((id, {"due": due}, after) for id, due in tasks), who=who)


def record_queue_change(
    sender: object, queue: str, before: dict[str, Any], after: dict[str, Any], who: int | None, **kwargs: Any
) -> None:
    """A queue is paused, resumed or limited: record by whom."""
    audit.write_in_bulk("celery_ledger.queueswitch", [(queue, before, after)], who=who)


def record_rate_change(
    sender: object, task: str, before: str | None, after: str | None, who: int | None, **kwargs: Any
) -> None:
    """A task's rate is set or restored: record by whom."""
    audit.write_in_bulk("celery_ledger.taskrate", [(task, {"rate": before}, {"rate": after})], who=who)


def record_wish_of_process(
    sender: object, process: str, before: str, after: str, who: int | None, **kwargs: Any
) -> None:
    """A worker is drained, or a process stopped: record by whom."""
    changes = [(process, {"wish": before}, {"wish": after})]
    audit.write_in_bulk("celery_ledger.heartbeat", changes, who=who)


def record_schedule_change(
    sender: object, name: str, before: dict[str, Any], after: dict[str, Any], who: int | None, **kwargs: Any
) -> None:
    """A schedule is paused, resumed or run by a user: record by whom."""
    audit.write_in_bulk("django_celery_beat.periodictask", [(name, before, after)], who=who)


def record_admin_action(sender: object, instance: LogEntry, created: bool, raw: bool, **kwargs: Any) -> None:
    """The admin logged an action by a member of staff: record it."""
    if created and not raw:
        audit.write_admin_action(instance)


def _event(what: AuditEntry.What, order: Order) -> list[Any]:
    return [str(what), order.pk, current_actor(), current_request_id(), timezone.now().isoformat()]


def _linked(through: type[Model], instance: Model) -> list[Any]:
    """Return the ids of the objects linked to ``instance`` by rows of ``through``."""
    own, other = None, None
    for field in through._meta.concrete_fields:
        if field.is_relation and field.related_model is type(instance) and own is None:
            own = field
        elif field.is_relation:
            other = field
    if own is None or other is None:
        return []
    rows = through._base_manager.filter(**{own.attname: instance.pk})
    return sorted(rows.values_list(other.attname, flat=True))
