"""What is known of a task's attempts: a row for each that failed, written with the failure; a success costs none."""

from celery import current_task

from worker.ledger import MAX_ERROR_LENGTH, Started
from worker.models import DurableTask, FailedAttempt

#: Longest traceback kept, in characters; the end of it says most.
MAX_TRACEBACK_LENGTH = 10_000


def record_failure(row: Started, error: str, traceback: str) -> None:
    """Keep that an attempt failed, in the transaction that says what becomes of the task."""
    published = DurableTask.objects.filter(id=row.id).values_list("published_at", flat=True)
    FailedAttempt.objects.create(
        task_id=row.id,
        number=row.attempts,
        published_at=published.first(),
        worker=(current_task.request.hostname if current_task else None) or "",
        error=error[:MAX_ERROR_LENGTH],
        traceback=traceback[-MAX_TRACEBACK_LENGTH:],
    )
