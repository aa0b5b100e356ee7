"""Attempts of tasks: a row for each failed one, written with the failure; a success costs none."""

from celery_ledger.context import current_carrier
from celery_ledger.models import DurableTask, FailedAttempt
from celery_ledger.rows.ledger import MAX_ERROR_LENGTH, Started


def record_failure(row: Started, error: str, traceback: str) -> None:
    """Record a failed attempt, in the transaction that decides what happens to the task."""
    message = current_carrier()
    published = DurableTask.objects.filter(id=row.id).values_list("published_at", flat=True)
    FailedAttempt.objects.create(
        task_id=row.id,
        number=row.attempts,
        published_at=published.first(),
        worker=message.worker if message else "",
        error=error[:MAX_ERROR_LENGTH],
        traceback=traceback,
    )
