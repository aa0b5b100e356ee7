"""
The worker's parent process: whom it takes messages from, and what it does with those it cannot run.

Named by ``CELERY_WORKER_CONSUMER``. A worker does not start on a broker that may throw messages away. A
message for a task that it does not know, as during a deploy, would be dropped by Celery and marked as
failed; here its rows wait in the ledger for a worker that knows them.
"""

import logging
from typing import Any
from uuid import UUID

from celery.worker import consumer as celery_consumer
from django.db import Error as DatabaseError

from worker import consumer
from worker.broker import Broker, UnsafeBrokerError

logger = logging.getLogger(__name__)


class Consumer(celery_consumer.Consumer):
    """Celery's consumer of messages, in the parent process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            Broker(self.app).check_policy()
        except UnsafeBrokerError as error:
            raise SystemExit(f"The worker cannot start: {error}") from None

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Take the message off the queue and leave its rows to others."""
        message.reject_log_error(logger, self.connection_errors)
        try:
            (ids,), _, _ = message.payload
            consumer.leave([UUID(id) for id in ids], f"no task {exc} is known here")
        except (TypeError, ValueError, AttributeError):
            logger.warning("A message of nobody's was dropped; it names the unknown task %s.", exc)
        except DatabaseError:
            logger.exception("A message names the unknown task %s; its rows come back when their lease ends.", exc)
