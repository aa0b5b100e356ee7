"""
Durable tasks of the audit trail. Called by receivers.py and by a schedule.

The names of the tasks are older than this app, and stay because rows, schedules and messages contain them.
"""

from datetime import datetime, timedelta

from celery import shared_task
from django.conf import settings

from audit_trail import audit
from audit_trail.models import AuditEntry
from celery_ledger.desk import turns


@shared_task(name="core.tasks.record_order_event", label="Write the audit trail", batch_size=200)
def record_order_event(events: list[tuple[str, int, int | None, str, str]]) -> None:
    """
    Record the outcome of orders, in one statement.

    Callers pass one event each: what, the order's id, who, the request's id, and when. Runs in the transaction
    that marks the ledger rows succeeded: each event is recorded once.
    """
    statuses: dict[str, tuple[dict[str, str], dict[str, str]]] = {
        AuditEntry.What.PLACED: ({}, {"status": "placed"}),
        AuditEntry.What.CANCELLED: ({"status": "placed"}, {"status": "cancelled"}),
    }
    AuditEntry.objects.bulk_create(
        AuditEntry(
            what=what,
            model="store.order",
            object_id=str(order_id),
            who_id=who,
            request_id=request_id,
            at=datetime.fromisoformat(at),
            before=statuses[what][0],
            after=statuses[what][1],
        )
        for what, order_id, who, request_id, at in events
    )


@shared_task(name="core.tasks.prune_audit_trail", queue="scheduled", transactional=False)
def prune_audit_trail() -> int:
    """
    Delete entries of the audit trail older than ``AUDIT_RETENTION_DAYS``, if that is set, and return how many.

    After a while it stops, and another task continues. Repeatable.
    """
    if not settings.AUDIT_RETENTION_DAYS:
        return 0
    return turns.take(prune_audit_trail, audit.prune(older_than=timedelta(days=settings.AUDIT_RETENTION_DAYS)))
