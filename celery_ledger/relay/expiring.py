"""
Calls whose time is over: a row that expires before a worker starts it is cancelled, and its result says so.

No worker starts such a row; see ``complete`` in :mod:`celery_ledger.rows.sql`. The relay's sweep calls this every
second.
"""

from celery import states
from celery.exceptions import TaskRevokedError
from django.db import connection, transaction
from django.db.models.functions import Now

from celery_ledger.events import tasks_settled
from celery_ledger.models import DurableTask
from celery_ledger.rows import results
from celery_ledger.rows.results import Outcome

Status = DurableTask.Status
#: Rows that one call cancels at the most.
MOST = 1_000
REASON = "It expired before it could run."


def cancel_expired() -> int:
    """Cancel rows that have expired and that no worker holds, and return how many."""
    expired = DurableTask.objects.filter(
        expires_at__isnull=False, expires_at__lt=Now(), status__in=[Status.PENDING, Status.PUBLISHED]
    )
    with transaction.atomic():
        locked = expired.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
        rows = list(locked.order_by("expires_at").values_list("id", "subject")[:MOST])
        if not rows:
            return 0
        DurableTask.objects.filter(id__in=[id for id, _ in rows]).update(
            status=Status.CANCELLED, lease_until=None, completed_at=Now(), last_error=REASON
        )
        results.record([Outcome(id, states.REVOKED, TaskRevokedError("expired")) for id, _ in rows])
    if subjects := {subject for _, subject in rows} - {None}:
        tasks_settled.send_robust(sender=None, subjects=subjects)
    return len(rows)
