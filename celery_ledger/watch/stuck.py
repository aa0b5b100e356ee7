"""Tasks that should have moved on but did not: the part of ``outbox verify`` that checks the ledger itself."""

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from celery_ledger.models import DurableTask, QueueSwitch
from celery_ledger.walking import walk

Status = DurableTask.Status
#: How long past its time a task may be open before it counts as stuck, in seconds.
STUCK_AFTER = 10.0


def stuck_tasks() -> Iterator[str]:
    """Yield a line for each overdue task: due but not published, or out with a lease that expired long ago."""
    late = Now() - timedelta(seconds=STUCK_AFTER)
    overdue = DurableTask.objects.filter(
        Q(status=Status.PENDING, available_at__lt=late)
        | Q(status__in=[Status.PUBLISHED, Status.RUNNING], lease_until__lt=late)
        | Q(status__in=[Status.PUBLISHED, Status.RUNNING], lease_until__isnull=True)
    ).exclude(queue__in=QueueSwitch.objects.values("queue"))
    for task in walk(overdue):
        yield f"{task.name} {task.id} is {task.status} since {task.published_at or task.available_at:%F %T} UTC"


def dead_without_reason() -> Iterator[str]:
    """Yield a line for each dead task without an error."""
    for task in walk(DurableTask.objects.filter(status=Status.DEAD, last_error="")):
        yield f"{task.name} {task.id}"
