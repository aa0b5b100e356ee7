"""
The composition root's own work, as durable tasks. Called by receivers.py, by schedules and by views.

Delivery and retries as for any durable task.
"""

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

from celery import shared_task
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from core import lockout, reports
from core.models import AuditEntry
from notifications.announce import notify
from notifications.models import Kind
from store.managers import managers
from worker import audit
from worker.errors import PermanentError

logger = logging.getLogger(__name__)

#: How often what looks broken is looked at again before anybody is told, and after how many seconds.
LOOKS_AGAIN, PAUSE = 2, 60


@shared_task(name="core.tasks.record_order_event", batch_size=200)
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


@shared_task(name="core.tasks.send_report", bind=True, queue="scheduled", transactional=False)
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
    bind=True,
    queue="scheduled",
    transactional=False,
    soft_time_limit=1_740,
    time_limit=1_800,
)
def verify_promises(self: Any) -> dict[str, int]:
    """
    Do what ``manage.py outbox verify`` does, and tell the managers if a promise is broken.

    What looks broken may be work in progress, so it is looked at again before anybody is told. Returns how
    many lines each broken promise has. Repeatable: the managers are told once a day.
    """
    broken = {promise: lines for promise, violations in audit.promises().items() if (lines := list(violations()))}
    if broken and self.request.retries < LOOKS_AGAIN:
        raise self.retry(countdown=PAUSE, exc=RuntimeError(f"{len(broken)} promises look broken."))
    if broken:
        for promise, lines in broken.items():
            logger.error("Broken: %s %s", promise, "; ".join(lines[:10]))
        with transaction.atomic():
            notify(
                managers().values_list("pk", flat=True),
                kind=Kind.PROMISE_BROKEN,
                message=f"`outbox verify` finds {len(broken)} promises broken, the first: {next(iter(broken))}"[:500],
                data={promise: len(lines) for promise, lines in broken.items()},
                key=f"{Kind.PROMISE_BROKEN}:{timezone.now().date()}",
            )
    return {promise: len(lines) for promise, lines in broken.items()}


@shared_task(name="core.tasks.clear_sessions", queue="scheduled", transactional=False)
def clear_sessions() -> None:
    """Delete the sessions that have expired, and failed logins that no longer count. Repeatable."""
    call_command("clearsessions")
    lockout.forget_old_failures()
