"""
Errors in processes that run forever: caught, logged once, reported by the heartbeat, and retried.

Nothing that runs forever may end because of one exception. Each step of such a process runs in :meth:`Troubles.caught`,
so that it fails alone.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import Error as DatabaseError

from celery_ledger.databases import connection

#: Seconds between attempts to publish to a queue that the broker refuses.
REFUSED_PAUSES = (0.5, 1.0, 2.0, 5.0)


class Troubles:
    """The current problems of a process, by the step that failed."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self._texts: dict[str, str] = {}
        self._until: dict[str, float] = {}

    @contextmanager
    def caught(self, what: str) -> Iterator[None]:
        """
        Run a step that may fail: an error is a problem until the same step succeeds.

        Raises:
            DatabaseError: the database is unavailable, which no single step can handle.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, DatabaseError) and database_is_away():
                raise
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if self._texts.get(what) != text:
                self.logger.exception("%s failed. It is retried; the same error is not logged again.", what)
            self._texts[what] = text
        else:
            self._texts.pop(what, None)

    def note(self, what: str, *, seconds: float) -> None:
        """Record a problem that expires after a while."""
        self._until[what] = time.monotonic() + seconds

    def has(self, what: str) -> bool:
        """Whether a step failed at its last attempt."""
        return what in self._texts

    def __iter__(self) -> Iterator[str]:
        """Yield each current problem, in a few words."""
        now = time.monotonic()
        self._until = {what: until for what, until in self._until.items() if until > now}
        yield from self._until
        yield from (f"{what} fails" for what in self._texts)


def database_is_away() -> bool:
    """Whether this thread's connection is unusable, so that an error was not caused by the statement."""
    try:
        return not connection.is_usable()
    except Exception:  # noqa: BLE001 - a connection that cannot even be asked is unusable
        return True


@dataclass
class Refusal:
    """How often in a row a queue's messages were refused, and until when, on the monotonic clock, it rests."""

    times: int
    until: float


class Refusals(dict[str, Refusal]):
    """Queues whose messages a working broker refuses: each is retried after growing pauses."""

    def note(self, queue: str) -> int:
        """Record that a message for ``queue`` was refused, and return how often in a row."""
        times = self[queue].times + 1 if queue in self else 1
        self[queue] = Refusal(times, time.monotonic() + REFUSED_PAUSES[min(times, len(REFUSED_PAUSES)) - 1])
        return times

    def resting(self) -> set[str]:
        """Return the queues to leave alone now."""
        now = time.monotonic()
        return {queue for queue, refusal in self.items() if now < refusal.until}
