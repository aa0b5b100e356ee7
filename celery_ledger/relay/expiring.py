"""
Expired calls: a row that expires before a worker starts it is cancelled, and its result says so.

No worker starts such a row; see ``complete`` in :mod:`celery_ledger.rows.sql`. The relay's sweep calls this every
second.
"""

from django.db.models.functions import Now

from celery_ledger.databases import atomic
from celery_ledger.models import DurableTask
from celery_ledger.rows import revoking

Status = DurableTask.Status
#: At most this many rows are cancelled by one call.
MOST = 1_000
REASON = "It expired before it could run."


def cancel_expired() -> int:
    """Cancel rows that have expired and that no worker holds, and return how many."""
    expired = DurableTask.objects.filter(
        expires_at__isnull=False, expires_at__lt=Now(), status__in=[Status.PENDING, Status.PUBLISHED]
    )
    if not expired.exists():
        return 0
    with atomic():
        return len(revoking.revoke(expired.order_by("expires_at"), note=REASON, why="expired", most=MOST, expired=True))
