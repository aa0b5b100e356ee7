"""
A sign of life that costs its reader nothing: a file that a process touches for as long as it goes round.

For the probes of containers, which ask every few seconds and must not depend on the database, the broker, or the
load of the machine. Which file is said by the setting ``LEDGER_ALIVE_FILE``; without it there is none.
"""

import logging
from pathlib import Path

from django.conf import settings

__all__ = ["INTERVAL", "is_wanted", "sign"]

logger = logging.getLogger(__name__)

#: Seconds between two signs, about.
INTERVAL = 2.0


def is_wanted() -> bool:
    """Whether the project has named a file."""
    return bool(getattr(settings, "LEDGER_ALIVE_FILE", ""))


def sign() -> None:
    """Touch the file, if there is one."""
    if not is_wanted():
        return
    try:
        Path(settings.LEDGER_ALIVE_FILE).touch()
    except OSError as error:
        logger.warning("The sign of life cannot be given: %s", error)
