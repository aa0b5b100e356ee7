"""
Tools for tests of code that enqueues: run due tasks, simulate crashes, let time pass, surface receivers' errors.

``drain`` uses the real claim and the real consumer, without a broker in between. Tests that need a broker or a killed
process should start real processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from unittest import mock

from celery import current_app as app
from django.db.models import F
from django.db.models.functions import Now

from celery_ledger.models import DurableTask
from celery_ledger.project import import_tasks
from celery_ledger.relay.bundle import bundle
from celery_ledger.rows import ledger, paces
from celery_ledger.signals import DurableSignal
from celery_ledger.work import consumer

__all__ = ["drain", "enqueued", "loud_receivers", "pass_time", "recover"]


def drain(*, most_turns: int = 50) -> int:
    """
    Run every due task in this process until none is due, and return how many rows were run.

    Call it outside of any transaction that a real one would not have: with pytest-django's ``transactional_db``, or
    after all of the test's own writes.
    """
    import_tasks()
    ran = 0
    for _ in range(most_turns):
        rows = ledger.claim(dict.fromkeys(app.amqp.queues, 1_000), lease=60, limit=1_000)
        if not rows:
            return ran
        for message in bundle(app, rows, paces.known()):
            consumer.consume(app.tasks[message.name], [str(id) for id in message.ids])
        ran += len(rows)
    raise AssertionError(f"Tasks keep enqueueing tasks: {most_turns} turns were not enough.")


def enqueued(name: str) -> list[DurableTask]:
    """Return the ledger's rows of the task ``name``, oldest first."""
    return list(DurableTask.objects.filter(name=name).order_by("id"))


def pass_time(**how_long: float) -> None:
    """Advance all due times: ``pass_time(minutes=1)``, with timedelta's arguments."""
    later = DurableTask.objects.filter(status=DurableTask.Status.PENDING)
    later.update(available_at=F("available_at") - timedelta(**how_long))


@contextmanager
def loud_receivers() -> Iterator[None]:
    """Raise receivers' errors instead of arranging to resend the signal."""

    def raise_it(self: DurableSignal, receiver: object, error: Exception, named: object) -> None:
        raise error

    with mock.patch.object(DurableSignal, "handle_failure", raise_it):
        yield


def recover() -> int:
    """
    Simulate recovery after a crash, and return how many rows were run.

    Every lease ends as if it had expired, rows that the relay would bring back are brought back, and due tasks run as
    with :func:`drain`.
    """
    DurableTask.objects.filter(lease_until__isnull=False).update(lease_until=Now() - timedelta(seconds=1))
    ledger.lapse_expired()
    return drain()
