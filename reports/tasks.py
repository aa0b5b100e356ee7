"""
Sales reports as durable tasks. Called by a schedule and by views.py.

The names of the tasks are older than this app, and stay because rows, schedules and messages contain them.
"""

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

from celery import chain, group, shared_task
from django.contrib.auth import get_user_model
from django.utils import timezone

from celery_ledger.errors import PermanentError
from reports import mail
from store.managers import managers

logger = logging.getLogger(__name__)


@shared_task(name="core.tasks.send_daily_reports", queue="scheduled")
def send_daily_reports(due_at: str | None = None) -> None:
    """
    Enqueue the previous day's report for every manager, as a chain that ends with a log entry.

    The mails to all managers come first, then the log entry. A dead mail delays the log entry; replaying it completes
    the chain. Runs in one transaction: the whole chain is enqueued, once. Beat passes the due time of this run.
    """
    due = datetime.fromisoformat(due_at) if due_at else timezone.now()
    day = (due.astimezone(UTC).date() - timedelta(days=1)).isoformat()
    mails = [send_report.si(id, day, reference=day) for id in managers().values_list("pk", flat=True)]
    if mails:
        chain(group(mails), note_daily_reports.si(day, len(mails), due.isoformat()))()


@shared_task(name="reports.tasks.note_daily_reports", queue="scheduled")
def note_daily_reports(day: str, mails: int, due_at: str) -> float:
    """Log that every manager has the sales report of ``day``, and return how many seconds after ``due_at`` that was."""
    took = (timezone.now() - datetime.fromisoformat(due_at)).total_seconds()
    logger.info("The sales report of %s has been sent to all %d managers, %.1f s after it was due.", day, mails, took)
    return took


@shared_task(name="core.tasks.send_report", bind=True, queue="scheduled", transactional=False, retries="patient")
def send_report(self: Any, user_id: int, day: str | None = None, *, reference: str | None = None) -> None:
    """
    Send a user the sales report of ``day``, by default yesterday's. ``AsyncResult(id).info`` has the progress.

    One mail for each user and reference, which by default is this task: a second run finds it sent. Permanent errors:
    the user no longer exists, and those of the other mails.
    """
    user = get_user_model()._default_manager.filter(pk=user_id).first()
    if user is None:
        raise PermanentError(f"User {user_id} no longer exists.")

    def tell(done: int, step: str) -> None:
        self.update_state(state="PROGRESS", meta={"done": done, "of": len(mail.STEPS), "step": step})

    of_day = date.fromisoformat(day) if day else timezone.now().date() - timedelta(days=1)
    mail.send(user, of_day, reference=reference or str(self.request.id), progress=tell)
