"""
The ledger's own tasks: messages of several tasks, and pruning.

Run by workers; ``prune`` is enqueued by beat. Delivery and retries as for any durable task.
"""

from collections.abc import Sequence
from datetime import timedelta

from celery import shared_task

from celery_ledger import conf, signals
from celery_ledger.context import current_carrier
from celery_ledger.desk import decisions, pruner, turns
from celery_ledger.retries import BRISK
from celery_ledger.task import Task
from celery_ledger.watch import canaries

__all__ = ["carry_out", "prune", "redeliver", "run_mixed", "see_canary"]

carry_out = decisions.carry_out
redeliver = signals.redeliver


@shared_task(name="celery_ledger.tasks.run_mixed", base=Task, transactional=True, has_needs=False)
def run_mixed() -> None:
    """
    Run a message that carries rows of several tasks, of one queue or of queues that the same workers serve.

    Never enqueued: the relay names it in messages, and the consumer runs the rows' own tasks.
    """
    raise AssertionError("The consumer runs the rows of a mixed message, never this body.")


class CanaryTask(Task):
    """A task whose messages have no rows: it only shows that a worker takes messages."""

    def take(self, ids: Sequence[str]) -> None:
        """Record that a worker took it."""
        carrier = current_carrier()
        self.run(str(carrier.delivery_info.get("routing_key")) if carrier else "")


# Without events: six every ten seconds would displace everything else from Flower's memory.
@shared_task(name="celery_ledger.tasks.see_canary", base=CanaryTask, send_events=False, has_needs=False)
def see_canary(queue: str) -> None:
    """
    Record that a worker takes messages of this queue.

    Never enqueued: the relay puts a message of it into every queue now and then. Repeatable.
    """
    canaries.seen(queue)


@shared_task(name="celery_ledger.tasks.prune", base=Task, retries=BRISK, has_needs=False)
def prune() -> int:
    """
    Delete successful tasks older than the retention time, for a while, and return how many.

    If more is left, another task continues, so that no time limit is exceeded. Repeatable: deleting again deletes
    nothing twice.
    """
    return turns.take(prune, pruner.portions(older_than=timedelta(days=conf.RETENTION_DAYS.value)))
