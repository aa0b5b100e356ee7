"""
Celery's prefork pool, maintaining its processes twice a second instead of every five seconds.

Replaces Celery's pool, see :mod:`celery_ledger.work.bootsteps`. A dead child is then detected, counted and replaced
within about a second, long before the lease of its task ends. A worker that receives a stop request also exits within
seconds. The module's name matters: Celery searches it for the pool's name before it closes Django's connection pools.
"""

from collections.abc import Callable
from typing import Any

from billiard import pool
from celery.concurrency import asynpool, prefork

MAINTENANCE_INTERVAL = 0.5  # seconds
#: Seconds that a process has to exit by itself at the limit of a row that requested a longer limit than its task has.
TIME_TO_END = 2.0
#: Tenths of a second that an exiting child waits until its parent has read its results. A parent that is exiting too
#: may not read any more, and Celery's own 300 outlast the patience of most supervisors. Only an acknowledgement is
#: lost: the row is done, and its message is passed over when it comes again.
pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20


class PromptPool(asynpool.AsynPool):
    """A pool that detects dead processes promptly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._hub: Any = None
        self._extended: set[int] = set()
        super().__init__(*args, **kwargs)

    def _create_timelimit_handlers(self, hub: Any) -> None:
        self._hub = hub
        super()._create_timelimit_handlers(hub)

    def _on_soft_timeout(self, job: int, soft: float, hard: float | None, hub: Any) -> None:
        """Skip a row whose call requested a longer limit: its process enforces that limit."""
        if self._asked(job)[1] <= soft:
            super()._on_soft_timeout(job, soft, hard, hub)
        elif hard:
            self._tref_for_id[job] = hub.call_later(hard - soft, self._on_hard_timeout, job)
        else:
            self._discard_tref(job)

    def _on_hard_timeout(self, job: int) -> None:
        """Kill a process, unless a row of its message requested a longer limit, which the process enforces itself."""
        result = self._cache.get(job)
        longer = self._asked(job)[0] - (result._timeout or self.timeout or 0) if result is not None else 0
        if longer > 0 and job not in self._extended:
            self._extended.add(job)
            self._tref_for_id[job] = self._hub.call_later(longer + TIME_TO_END, self._on_hard_timeout, job)
            return
        self._extended.discard(job)
        super()._on_hard_timeout(job)

    def _asked(self, job: int) -> tuple[float, float]:
        """Return the longest limits, hard and soft, that calls of this message's rows requested; 0: none did."""
        request = getattr(getattr(self._cache.get(job), "_timeout_callback", None), "__self__", None)
        asked: Callable[[], tuple[float, float]] | None = getattr(request, "asked_limits", None)
        return asked() if asked is not None else (0.0, 0.0)

    @property
    def timers(self) -> dict[Callable[[], None], float]:
        """The functions for the worker's event loop to call, and how often."""
        return {self.maintain_pool: MAINTENANCE_INTERVAL}


class TaskPool(prefork.TaskPool):
    """The pool of a worker that has durable tasks."""

    Pool = PromptPool
