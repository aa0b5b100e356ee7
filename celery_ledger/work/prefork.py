"""
Celery's prefork pool, looking after its processes twice a second instead of every five seconds.

Put by :mod:`celery_ledger.work.bootsteps` in the place of Celery's. A child that dies is then known, counted and
replaced within about a second, long before the lease of its task ends. A worker that is told to stop ends within
seconds, too. Celery looks for its pool's name in that of the module before it closes Django's connection pools.
"""

from collections.abc import Callable

from billiard import pool
from celery.concurrency import asynpool, prefork

MAINTENANCE_INTERVAL = 0.5  # seconds
#: Tenths of a second that a child which ends waits until its parent has read its results. A parent that is ending
#: itself may read no more, and Celery's own 300 outlast the patience of most supervisors. What is lost is an
#: acknowledgement: the row is done, and its message passed over when it comes again.
pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20


class PromptPool(asynpool.AsynPool):
    """A pool that notices dead processes soon."""

    @property
    def timers(self) -> dict[Callable[[], None], float]:
        """What the worker's event loop shall call, and how often."""
        return {self.maintain_pool: MAINTENANCE_INTERVAL}


class TaskPool(prefork.TaskPool):
    """The pool of a worker that has durable tasks."""

    Pool = PromptPool
