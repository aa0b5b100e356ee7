"""
Recording what has happened outside the database, with patience: to fail would be to have it happen again.

Called wherever an effect outside (a mail, a push, an SMS, a call of somebody's API) has still to be written down.
"""

import logging
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, connection

__all__ = ["persist"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

#: Seconds for which a record waits for a database that is away: for longer than one needs to restart.
PATIENCE = 30.0
#: Seconds between two attempts.
PAUSE = 0.2


def persist(record: Callable[[], Result], *, patience: float = PATIENCE) -> Result:
    """
    Return ``record()``, called again on a new connection as long as the database is away.

    It must be one transaction, and repeatable: its COMMIT may have succeeded and its answer have been lost.
    A soft time limit that ends meanwhile is passed over: what has happened shall be on record.

    Raises:
        OperationalError, InterfaceError: the database did not come back in time, or there is a transaction
            around this, which is lost with its connection.
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
