"""
How far back a relay's claims look.

PostgreSQL keeps what was taken and done as long as a transaction is open that began before, and the index of what is
pending keeps its entries: a claim that begins at the oldest walks over all of them. A claim that had room for more has
taken everything that was due; the next one begins where that one was made, and a little before. What appears further
back (a late commit, a message that was lost, a replay) is found by a whole look, once a second. Workers announce rows
that they hand on, and the whole look follows at once if it is quick.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from celery_ledger.rows.ledger import WHOLE

#: Seconds from the INSERT of a call to its COMMIT in which it is found without a whole look.
LATE = 1.0
#: Seconds between two whole looks; more where one takes long, so that they take a twentieth of the time.
INTERVAL = 1.0
SHARE = 20.0


class Reach:
    """Where the claims of each queue begin."""

    def __init__(self) -> None:
        self._taken: dict[str, float] = {}  # when everything due had been taken, by the monotonic clock
        self._next_whole: dict[str, float] = {}
        self._slow: set[str] = set()  # the queues in which a whole look takes long
        self._began = 0.0
        self._whole: set[str] = set()

    def begin(self, rooms: Mapping[str, int]) -> dict[str, float]:
        """Return how many seconds back a claim that is made now looks in each queue; then :meth:`note` it."""
        self._began = time.monotonic()
        self._whole = {queue for queue in rooms if self._began >= self._next_whole.get(queue, 0.0)}
        return self.back(rooms) | dict.fromkeys(self._whole, WHOLE)

    def back(self, queues: Iterable[str]) -> dict[str, float]:
        """Return how many seconds ago the rows of each queue can have become due; a full look finds any older ones."""
        now = time.monotonic()
        return {queue: now - self._taken[queue] + LATE if queue in self._taken else WHOLE for queue in queues}

    def note(self, rooms: Mapping[str, int], taken: Iterable[str], *, limit: int) -> None:
        """Note a claim's rooms and the queue of each row that it took."""
        counts = Counter(taken)
        now = time.monotonic()
        for queue, room in rooms.items():
            if room < 1:
                continue  # It has not been looked at.
            if counts[queue] < room and counts.total() < limit:
                self._taken[queue] = self._began
            elif queue in self._whole:
                self._taken.pop(queue, None)  # There is a backlog, however old.
            if queue in self._whole:
                pause = SHARE * (now - self._began)
                self._next_whole[queue] = now + max(INTERVAL, pause)
                (self._slow.add if pause > INTERVAL else self._slow.discard)(queue)

    def hurry(self) -> None:
        """Make the next look whole, except in queues where that takes long."""
        for queue in self._taken.keys() - self._slow:
            del self._taken[queue]
            self._next_whole.pop(queue, None)

    def forget(self) -> None:
        """Have the next looks be whole."""
        self._taken.clear()
        self._next_whole.clear()
