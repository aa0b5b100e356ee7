"""The relay's and the clock's part in tests of single steps of the ledger."""

from celery_ledger.models import DurableTask
from celery_ledger.rows import ledger
from celery_ledger.work import consumer

Status = DurableTask.Status


def publish(*queues: str) -> list[str]:
    """Claim due rows as the relay does, and return the ids that its messages would carry."""
    rooms = dict.fromkeys(queues or ("default",), 1_000)
    return [str(row.id) for row in ledger.claim(rooms, lease=60, limit=1_000)]


def take(task, ids: list[str]) -> str:
    """Handle a message as a worker does, and return the outcome of its rows in words."""
    return str(consumer.consume(task, ids))


def make_due() -> None:
    DurableTask.objects.filter(status=Status.PENDING).update(available_at="2010-12-01T08:00Z")


def let_leases_end() -> int:
    DurableTask.objects.filter(lease_until__isnull=False).update(lease_until="2010-12-01T08:00Z")
    return ledger.lapse_expired()


def unlimited(name: str) -> None:
    """Allow any number of attempts."""
