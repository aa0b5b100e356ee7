"""
What the worker's parent process does when a child dies with a message in its hands.

Celery would mark the task failed and lose it, or requeue it for ever. Here the ledger counts the
attempt and brings the rows back at once; the message itself is acknowledged.
"""

import logging
import os
import signal
from contextlib import suppress
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.worker import request

from worker import consumer

logger = logging.getLogger(__name__)


class LedgerRequest(request.Request):
    """A message being run by a pool process."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Count the attempt if the hard time limit killed the process; the soft one is an error in the body."""
        super().on_timeout(soft, timeout)
        if not soft:
            # Celery kills it after this. Until then its transaction holds the row, and this process would wait.
            with suppress(ProcessLookupError):
                os.kill(self.worker_pid, signal.SIGKILL)
            self._count_lost(f"It ran longer than the time limit of {timeout} s.")

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """The process died under the message: count it."""
        answer = super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        error = getattr(exc_info.exception, "exc", exc_info.exception)  # It may come wrapped in its traceback.
        if isinstance(error, WorkerLostError):
            self._count_lost(str(error))
        return answer

    def _count_lost(self, reason: str) -> None:
        try:
            ids = self.args[0]
            consumer.count_lost(self.task, ids, reason)
        except Exception:
            # The lease brings the rows back all the same; a failure here must not stop the worker.
            logger.exception("A lost process could not be recorded; its tasks come back when their lease ends.")
