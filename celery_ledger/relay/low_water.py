"""
How early the leases end that a relay's searches for lost tasks have to read.

PostgreSQL keeps the old versions of rows as long as an older transaction is open, and the index of leases keeps their
entries: a search that starts at the earliest lease walks over those of every task done since. Each look finds the
earliest lease that a row still has; the searches start there, and the next look does too. New leases end later than
that. A lease that does not (its transaction was long, the clock was set back, another process has a shorter one) is
found by a look at the whole index: once a second, or less often if that takes long.
"""

import time
from datetime import datetime, timedelta

from celery_ledger.databases import connection
from celery_ledger.rows import ledger

#: If this many seconds at most pass from the statement that gives a lease to its COMMIT, no whole look is needed.
LATE = timedelta(seconds=1)
#: Seconds between two whole looks: each sweep makes one, unless it takes long. They take a hundredth of the time.
INTERVAL = 0.7
SHARE = 100.0


class LowWater:
    """The earliest leases that are left: of rows whose lease has ended, and of published rows."""

    def __init__(self) -> None:
        #: From when the searches start; None: from the earliest.
        self.ended: datetime | None = None
        self.published: datetime | None = None
        #: Whether there is a lease that has ended, or a published row: otherwise there is nothing to search for.
        self.has_ended = True
        self.has_published = True
        self._next_whole = 0.0

    def look(self, *, lease: float) -> None:
        """Find the earliest leases, before the searches; published rows have leases of ``lease`` seconds."""
        if connection.vendor != "postgresql":
            return  # SQLite keeps no old versions of rows.
        began = time.monotonic()
        is_whole = began >= self._next_whole
        found = ledger.earliest_leases(
            ended=None if is_whole else self.ended, published=None if is_whole else self.published
        )
        self.has_ended, self.has_published = found.ended is not None, found.published is not None
        # Rows that are not there yet get leases from now on.
        self.ended = min(found.ended or found.now, found.now - LATE)
        new = found.now + timedelta(seconds=lease) - LATE
        self.published = min(found.published or new, new)
        if is_whole:
            ended = time.monotonic()
            self._next_whole = ended + max(INTERVAL, SHARE * (ended - began))
