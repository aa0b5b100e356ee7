"""
Limits by key, enforced by all relays together before they publish; no worker waits for them.

Rows with a key are held back when they are claimed, and taken in order as far as their keys have free places.
Tasks without ``concurrency_per_key`` cost nothing here.
"""

import math
from collections.abc import Iterable, Mapping
from time import monotonic

from celery import Celery

from celery_ledger.rows import places
from celery_ledger.rows.ledger import Claimed

#: Seconds between two checks of the places while rows are held back.
LOOK_AGAIN = 0.05
#: A check takes longer with many rows; it is followed by a pause of this many times its duration.
REST = 5


class Places:
    """The tasks of an app that limit calls by key, and whether any of their rows are held back."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.sizes: dict[str, int] = {}
        self._holds = False
        self._next_look = 0.0  # by the monotonic clock

    def look(self) -> None:
        """Update which tasks have such limits, and whether rows are waiting for them."""
        self.sizes = places.of_tasks(self.app)
        self._holds = bool(self.sizes) and places.held(self.sizes).exists()

    def are_kept_for(self, names: Iterable[str]) -> bool:
        """Whether a task of one of these names has such a limit."""
        return any(name in self.sizes for name in names)

    def pause(self) -> float:
        """Return the seconds until the next check of the places."""
        return max(0.0, self._next_look - monotonic()) if self._holds else math.inf

    def hold_back(self, rows: list[Claimed]) -> list[Claimed]:
        """Hold back the claimed rows that have a key; return the others."""
        limited = [row.id for row in rows if row.name in self.sizes]
        keyed = places.with_key(limited) if limited else set()
        if not keyed:
            return rows
        places.hold(keyed)
        self._holds = True
        return [row for row in rows if row.id not in keyed]

    def claim(self, rooms: Mapping[str, int], *, lease: float, most: int) -> list[Claimed]:
        """Claim held rows for which there is a free place now."""
        began = monotonic()
        if not self._holds or began < self._next_look or most < 1:
            return []
        rows = places.claim_held(self.sizes, rooms, most=most, lease=lease)
        ended = monotonic()
        self._next_look = ended + max(LOOK_AGAIN, REST * (ended - began))
        return rows
