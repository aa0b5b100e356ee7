"""What is known of a task's attempts: a row for each that failed, written with the failure; a success costs none."""

from celery_ledger.context import current_carrier
from celery_ledger.models import DurableTask, FailedAttempt
from celery_ledger.rows.ledger import MAX_ERROR_LENGTH, Started


def record_failure(row: Started, error: str, traceback: str) -> None:
    """Keep that an attempt failed, in the transaction that says what happens to the task."""
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
