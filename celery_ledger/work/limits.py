"""
Time limits requested by a call itself, enforced by the process that runs its row.

Celery handles the limits of a task and of the worker: its parent process enforces them per message. A call's own
limits may be shorter, and also apply if its row shares a message with others.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from billiard.process import current_process
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from celery_ledger.rows import ledger

logger = logging.getLogger(__name__)


@contextmanager
def limits_of(row: ledger.Started) -> Iterator[None]:
    """
    Run a body within the limits, in seconds, that its call requested, if any.

    At the soft limit, :class:`SoftTimeLimitExceeded` is raised in the body. At the hard limit, a pool process is
    killed, as Celery does it; elsewhere :class:`TimeLimitExceeded` is raised. A pool of threads has no such signals,
    which is logged.
    """
    hard, soft = (row.options or {}).get("timelimit") or (None, None)
    if not hard and not soft:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        logger.warning("%s %s has time limits of its own, which a thread cannot keep.", row.name, row.id)
        yield
        return

    def expire(signum: int, frame: FrameType | None) -> None:
        nonlocal soft
        if soft and (not hard or soft < hard):
            reached, soft = soft, None
            if hard:
                signal.setitimer(signal.ITIMER_REAL, hard - reached)
            raise SoftTimeLimitExceeded(reached)
        logger.error("%s %s ran longer than its hard time limit of %s s.", row.name, row.id, hard)
        if current_process().name != "MainProcess":
            os.kill(os.getpid(), signal.SIGKILL)
        raise TimeLimitExceeded(hard)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, min(limit for limit in (hard, soft) if limit))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
