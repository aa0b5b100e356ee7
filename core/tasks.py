"""
The composition root's own work, as durable tasks. Called by receivers.py, by schedules and by views.

Delivery and retries as for any durable task.
"""

import logging
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

from celery import shared_task
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from celery_ledger.desk import turns
from celery_ledger.errors import PermanentError
from celery_ledger.promises import promises as registered_promises
from core import audit as trail
from core import lockout, reports
from core.models import AuditEntry
from notifications.announce import notify
from notifications.models import Kind
from store.managers import managers

logger = logging.getLogger(__name__)

#: How long one task looks at promises before it leaves the rest to the next, in seconds.
TURN = 20.0
#: How often what looks broken is looked at again before anybody is told, and after how many seconds.
LOOKS_AGAIN, PAUSE = 2, 60


@shared_task(name="core.tasks.record_order_event", label="Write the audit trail", batch_size=200)
def record_order_event(events: list[tuple[str, int, int | None, str, str]]) -> None:
    """
    Put on record what became of orders, in one statement.

    Callers give one event each: what, the order's id, who, the request's id, and when. In the transaction
    that marks the ledger rows succeeded: each is on record once.
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


@shared_task(name="core.tasks.send_daily_reports", queue="scheduled")
def send_daily_reports(due_at: str | None = None) -> None:
    """
    Have every manager sent the sales report of the day before ``due_at``, by a task of its own.

    In one transaction: all of them are enqueued, once. Beat says for which of its due times this is.
    """
    due = datetime.fromisoformat(due_at) if due_at else timezone.now()
    day = due.astimezone(UTC).date() - timedelta(days=1)
    for manager_id in managers().values_list("pk", flat=True):
        send_report.delay(manager_id, day.isoformat(), reference=day.isoformat())


@shared_task(name="core.tasks.send_report", bind=True, queue="scheduled", transactional=False, retries="patient")
def send_report(self: Any, user_id: int, day: str | None = None, *, reference: str | None = None) -> None:
    """
    Send a user the sales report of ``day``, by default yesterday's. ``AsyncResult(id).info`` says how far it is.

    One mail a user and reference, by default this task: a second run finds it sent. Permanent errors: the
    user is gone, and as for the other mails.
    """
    user = get_user_model()._default_manager.filter(pk=user_id).first()
    if user is None:
        raise PermanentError(f"User {user_id} no longer exists.")

    def tell(done: int, step: str) -> None:
        self.update_state(state="PROGRESS", meta={"done": done, "of": len(reports.STEPS), "step": step})

    of_day = date.fromisoformat(day) if day else timezone.now().date() - timedelta(days=1)
    reports.send(user, of_day, reference=reference or str(self.request.id), progress=tell)


@shared_task(
    name="core.tasks.verify_promises",
    queue="scheduled",
    transactional=False,
    soft_time_limit=1_740,
    time_limit=1_800,
)
def verify_promises(
    promises: list[str] | None = None, broken: dict[str, int] | None = None, looks: int = 0
) -> dict[str, int]:
    """
    Do what ``manage.py outbox verify`` does, and tell the managers if a promise is broken.

    A few promises at a time, by default all: what is left is the next task's, so that no process is held for long.
    What looks broken may be work in progress, so it is looked at again before anybody is told. Returns how many lines
    each broken promise has, of those looked at so far. Repeatable: the managers are told once a day.
    """
    known, broken, end = registered_promises(), broken or {}, time.monotonic() + TURN
    rest = [promise for promise in (known if promises is None else promises) if promise in known]
    while rest:
        promise = rest.pop(0)
        if lines := list(known[promise]()):
            broken[promise] = len(lines)
            logger.error("It looks broken: %s %s", promise, "; ".join(lines[:10]))
        if time.monotonic() > end:
            break
    if rest:
        verify_promises.delay(rest, broken, looks)
    elif broken and looks < LOOKS_AGAIN:
        verify_promises.apply_async((list(broken), {}, looks + 1), countdown=PAUSE)
    elif broken:
        with transaction.atomic():
            notify(
                managers().values_list("pk", flat=True),
                kind=Kind.PROMISE_BROKEN,
                message=f"`outbox verify` finds {len(broken)} promises broken, the first: {next(iter(broken))}"[:500],
                data=broken,
                key=f"{Kind.PROMISE_BROKEN}:{timezone.now().date()}",
            )
    return broken


@shared_task(name="core.tasks.prune_audit_trail", queue="scheduled", transactional=False)
def prune_audit_trail() -> int:
    """
    Delete entries of the audit trail older than ``AUDIT_RETENTION_DAYS``, if that is set, and return how many.

    For a while; what is left is the next task's. Repeatable: what is gone stays gone.
    """
    if not settings.AUDIT_RETENTION_DAYS:
        return 0
    return turns.take(prune_audit_trail, trail.prune(older_than=timedelta(days=settings.AUDIT_RETENTION_DAYS)))


@shared_task(name="core.tasks.clear_sessions", queue="scheduled", transactional=False)
def clear_sessions() -> None:
    """Delete the sessions that have expired, and failed logins that no longer count. Repeatable."""
    call_command("clearsessions")
    lockout.forget_old_failures()
