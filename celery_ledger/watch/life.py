"""
A sign of life that costs its reader nothing: a file that a process touches as long as its loop is turning.

For container probes, which run every few seconds and must not depend on the database, the broker, or the load of the
machine. The setting ``LEDGER_ALIVE_FILE`` names the file; without it there is none.

A relay of several databases has a loop for each. All of them have to turn, except those whose database is away.
"""

import logging
import math
import time
from pathlib import Path

from django.conf import settings

from celery_ledger import databases

__all__ = ["INTERVAL", "is_wanted", "sign"]

logger = logging.getLogger(__name__)

#: Approximate seconds between two signs.
INTERVAL = 2.0
#: Seconds without a sign of one database's loop after which those of the others do not count.
SILENT_AFTER = 15.0
#: When the loop of each database gave its last sign, by the monotonic clock; never silent while its database is away.
_signs: dict[str, float] = {}


def is_wanted() -> bool:
    """Whether the project's settings name a file."""
    return bool(getattr(settings, "LEDGER_ALIVE_FILE", ""))


def sign(*, is_away: bool = False) -> None:
    """Touch the file, if there is one, for the loop of the database in use; ``is_away``: that does not answer."""
    if not is_wanted():
        return
    now = time.monotonic()
    _signs[databases.current()] = math.inf if is_away else now
    if min(_signs.values()) < now - SILENT_AFTER:
        return
    try:
        Path(settings.LEDGER_ALIVE_FILE).touch()
    except OSError as error:
        logger.warning("The sign of life cannot be given: %s", error)
