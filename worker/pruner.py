"""Deletes what the ledger no longer needs. Dead tasks are kept until a person decides."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django_celery_results.models import TaskResult

from worker.models import DurableTask
from worker.uuid7 import first_uuid7_at

BATCH = 1_000  # rows a transaction


def prune(*, older_than: timedelta) -> int:
    """
    Delete succeeded and cancelled tasks that ended over ``older_than`` ago, with their results.

    In small transactions along the primary key, oldest first, so that nobody waits long for a lock.
    Returns how many tasks were deleted.
    """
    cutoff = timezone.now() - older_than
    old = DurableTask.objects.filter(
        id__lt=first_uuid7_at(cutoff),
        status__in=[DurableTask.Status.SUCCEEDED, DurableTask.Status.CANCELLED],
        completed_at__lt=cutoff,
    ).order_by("id")
    pruned = 0
    while ids := list(old.values_list("id", flat=True)[:BATCH]):
        with transaction.atomic():
            TaskResult.objects.filter(task_id__in=[str(id) for id in ids]).delete()
            pruned += DurableTask.objects.filter(id__in=ids).delete()[0]
    return pruned
