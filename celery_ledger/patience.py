"""
Patient recording of effects outside the database: if recording failed, the effect would be repeated.

Call it after an external effect (a mail, a push, an SMS, an API call) that still has to be recorded.
"""

import logging
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError

from celery_ledger.databases import connection

__all__ = ["persist"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

#: Seconds for which a record waits for an unavailable database: longer than a failover decided after 30 s.
PATIENCE = 45.0
#: Seconds between two attempts.
PAUSE = 0.2


def persist(record: Callable[[], Result], *, patience: float = PATIENCE) -> Result:
    """
    Return ``record()``, retried on new connections while the database is unavailable.

    It must be one transaction, and repeatable: its COMMIT may have succeeded and its response been lost.
    A soft time limit that expires meanwhile is ignored, because the effect must be recorded.

    Raises:
        OperationalError, InterfaceError: the database did not come back in time, or this was called inside
            a transaction, which is lost with its connection.
    """
    deadline = monotonic() + patience
    while True:
        try:
            return record()
        except SoftTimeLimitExceeded:
            logger.warning("The time limit was reached while an effect was being recorded; recording continues.")
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block or monotonic() > deadline:
                raise
            logger.warning("The database is unavailable; an effect is waiting to be recorded: %s", error)
            connection.close()
            sleep(PAUSE)
