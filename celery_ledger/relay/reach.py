"""
How far back a relay's claims search.

PostgreSQL keeps the old versions of rows that were taken and completed as long as an older transaction is open, and the
index of pending rows keeps their entries: a claim that starts at the oldest entry walks over all of them. A claim that
had room for more has taken everything that was due; the next one starts slightly before the time of that claim, and
one in a while, a second before. Rows that appear further back (a late commit, a lost message, a replay) are found by a
full scan, once a second. When a worker announces rows that it hands on, the full scan follows at once if it is quick;
when the relay itself has brought rows back, it follows at once.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from celery_ledger.rows.ledger import WHOLE

#: If this many seconds at most pass from the INSERT of a call to its COMMIT, it is found by the next claim, or by one
#: that looks further back, or without a full scan.
SOON = 0.05
LATE = 1.0
#: Seconds between two claims that look back by ``LATE``: under an old snapshot, a second has thousands of entries.
LOOK_BACK = 0.25
#: Seconds between two full scans; more if a scan takes long, so that scans take a hundredth of the time.
INTERVAL = 1.0
SHARE = 100.0


class Reach:
    """The times from which claims of each queue start."""

    def __init__(self) -> None:
        self._taken: dict[str, float] = {}  # when everything due was last taken, by the monotonic clock
        self._looked_back: dict[str, float] = {}  # the same, of claims that looked back by LATE
        self._next_whole: dict[str, float] = {}
        self._slow: set[str] = set()  # the queues in which a full scan takes long
        self._began = 0.0
        self._whole: set[str] = set()
        self._near: set[str] = set()  # the queues of which the claim under way looks back by SOON only

    def begin(self, rooms: Mapping[str, int]) -> dict[str, float]:
        """Return how many seconds back a claim made now must search in each queue; then :meth:`note` it."""
        self._began = time.monotonic()
        self._whole = {queue for queue in rooms if self._began >= self._next_whole.get(queue, 0.0)}
        near = {
            queue: self._began - taken + SOON
            for queue, taken in self._taken.items()
            if self._began < self._looked_back.get(queue, 0.0) + LOOK_BACK
        }
        self._near = near.keys() & rooms.keys() - self._whole
        return self.back(rooms) | {queue: near[queue] for queue in self._near} | dict.fromkeys(self._whole, WHOLE)

    def back(self, queues: Iterable[str]) -> dict[str, float]:
        """Return how many seconds ago rows of each queue can have become due; a full scan finds any older ones."""
        now = time.monotonic()
        looked = self._looked_back
        return {queue: now - looked[queue] + LATE if queue in looked else WHOLE for queue in queues}

    def note(self, rooms: Mapping[str, int], taken: Iterable[str], *, limit: int) -> None:
        """Record a claim's rooms and the queue of each row that it took."""
        counts = Counter(taken)
        now = time.monotonic()
        for queue, room in rooms.items():
            if room < 1:
                continue  # It has not been searched.
            if counts[queue] < room and counts.total() < limit:
                self._taken[queue] = self._began
                if queue not in self._near:
                    self._looked_back[queue] = self._began
            elif queue in self._whole:
                self._drop(queue)  # There is a backlog of any age.
            if queue in self._whole:
                pause = SHARE * (now - self._began)
                self._next_whole[queue] = now + max(INTERVAL, pause)
                (self._slow.add if pause > INTERVAL else self._slow.discard)(queue)

    def hurry(self) -> None:
        """Make the next claim of each queue a full scan, unless that takes long."""
        for queue in self._looked_back.keys() - self._slow:
            self._drop(queue)
            self._next_whole.pop(queue, None)

    def forget(self) -> None:
        """Make the next claim of each queue a full scan."""
        self._taken.clear()
        self._looked_back.clear()
        self._next_whole.clear()

    def _drop(self, queue: str) -> None:
        self._taken.pop(queue, None)
        self._looked_back.pop(queue, None)
