"""What a relay knows about the run times of tasks: read once a second, and more often while a task is new."""

import time
from collections.abc import Callable, Iterable
from typing import Final

from celery_ledger.rows import paces

#: Seconds until what is known is read again while tasks are new; doubled with each reading after that.
SHORTEST: Final = 0.05
#: The relay's sweep reads it about this often in any case, in seconds.
LONGEST: Final = 1.0


class Pacing:
    """The measurements of all tasks, as last read; ``known`` is empty before that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.known: dict[str, paces.Known] = {}
        self._pause = LONGEST
        self._reads_at = 0.0

    def read(self) -> None:
        """Read what workers have measured."""
        self.known = paces.known()

    def follow(self, names: Iterable[str]) -> None:
        """Read it again if one of the tasks that were just published is new, or was a moment ago."""
        if not all(self.known.get(name, paces.UNKNOWN).is_enough for name in names):
            self._pause = SHORTEST
        now = self._clock()
        if self._pause < LONGEST and now >= self._reads_at:
            self.read()
            self._reads_at = now + self._pause
            self._pause *= 2
