"""
The ledger's own tasks: messages of several tasks, and pruning.

Run by workers; ``prune`` is enqueued by beat. Delivery and retries as for any durable task.
"""

from datetime import timedelta
from typing import Any

from celery import shared_task
from django.conf import settings

from worker import canaries, pruner, signals
from worker.task import Task

__all__ = ["prune", "redeliver", "run_mixed", "see_canary"]

redeliver = signals.redeliver


@shared_task(name="worker.tasks.run_mixed")
def run_mixed() -> None:
    """
    Run a message that carries rows of several batched tasks of one queue.

    Never enqueued: the relay names it in messages, and the consumer runs the rows' own tasks.
    """
    raise AssertionError("The consumer runs the rows of a mixed message, never this body.")


class CanaryTask(Task):
    """A task whose messages have no rows: that a worker takes one is all there is to know."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Note that a worker took it."""
        return self.run()


# Without events: six every ten seconds would push all else out of what Flower remembers.
@shared_task(name="worker.tasks.see_canary", base=CanaryTask, bind=True, send_events=False)
def see_canary(self: Any) -> None:
    """
    Note that messages of this queue are taken by a worker.

    Never enqueued: the relay puts a message of it into every queue now and then. Repeatable.
    """
    canaries.seen(self.request.delivery_info["routing_key"])


@shared_task(name="worker.tasks.prune", transactional=False)
def prune() -> int:
    """
    Delete tasks that ended well longer ago than the retention time, and return how many.

    Repeatable: what is gone stays gone.
    """
    return pruner.prune(older_than=timedelta(days=settings.LEDGER_RETENTION_DAYS))
