"""
A sign of life that costs its reader nothing: a file that a process touches as long as its loop is turning.

For container probes, which run every few seconds and must not depend on the database, the broker, or the load of the
machine. The setting ``LEDGER_ALIVE_FILE`` names the file; without it there is none.
"""

import logging
from pathlib import Path

from django.conf import settings

__all__ = ["INTERVAL", "is_wanted", "sign"]

logger = logging.getLogger(__name__)

#: Approximate seconds between two signs.
INTERVAL = 2.0


def is_wanted() -> bool:
    """Whether the project's settings name a file."""
    return bool(getattr(settings, "LEDGER_ALIVE_FILE", ""))


def sign() -> None:
    """Touch the file, if there is one."""
    if not is_wanted():
        return
    try:
        Path(settings.LEDGER_ALIVE_FILE).touch()
    except OSError as error:
        logger.warning("The sign of life cannot be given: %s", error)
