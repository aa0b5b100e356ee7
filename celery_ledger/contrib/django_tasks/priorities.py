"""
Conversion of Django's priorities, -100 to 100 with the highest first, to the ledger's, 0 (first) to 9.

A task without a priority gets the middle of both scales, so that Django's tasks and Celery's take turns. The ledger
looks for due rows priority by priority, for which ten is few enough; priorities less than one step apart are ordered by
time.
"""

from math import ceil
from typing import Final

from celery_ledger.models import Priority

HIGHEST: Final = 100
#: Number of steps above the middle, and below it.
ABOVE: Final = int(Priority.NORMAL) - int(Priority.HIGH)
BELOW: Final = int(Priority.LOW) - int(Priority.NORMAL)


def of_the_row(priority: int) -> int:
    """Return the ledger's priority for one of Django's."""
    if priority >= 0:
        return int(Priority.NORMAL) - ceil(ABOVE * priority / HIGHEST)
    return int(Priority.NORMAL) + ceil(BELOW * -priority / HIGHEST)
