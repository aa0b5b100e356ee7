"""Dead letters for tests: one that died like a real task, or many written at once."""

from datetime import timedelta

from django.utils import timezone

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from tests import probe

Status = DurableTask.Status


def die(title, error=None):
    """Have a task die and return its row."""
    probe.failing[title] = error or PermissionError(f"no key to {title!r}")
    handle = probe.make_collection.delay(title)
    drain()
    DurableTask.objects.filter(id=handle.id, status=Status.PENDING).update(
        status=Status.DEAD, completed_at=timezone.now()
    )
    return DurableTask.objects.get(id=handle.id)


def many_dead(number, error="OSError: [Errno 111] order {} was refused"):
    """Put ``number`` dead tasks into the ledger at once."""
    DurableTask.objects.bulk_create(
        (
            DurableTask(
                name="tests.make_collection",
                queue="default",
                status=Status.DEAD,
                args=[f"shelf {place}"],
                attempts=8,
                completed_at=timezone.now() + timedelta(milliseconds=place),
                last_error=error.format(place),
            )
            for place in range(number)
        ),
        batch_size=1_000,
    )
