"""
Claims on rows, renewed while their bodies run, by one thread per process.

If a body takes long, the same thread gives back the rows behind it in its message.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self
from uuid import UUID

from django.db import connections

from celery_ledger import databases
from celery_ledger.databases import connection
from celery_ledger.rows import ledger

logger = logging.getLogger(__name__)

#: Seconds until another attempt to renew a claim after a failed one.
RETRY_PAUSE = 0.5
#: Seconds between two checks of the running bodies, at most.
LOOK_EVERY: Final = 0.1
#: A body that runs for longer, in seconds, no longer keeps the rows behind it in its message.
LONGEST_WAIT: Final = 0.1


@dataclass
class Held:
    """A row whose body is running; without a row, one of several that share a transaction, which needs no claim."""

    row: ledger.Started | None
    lease: float
    #: Rows of its message that have not been started; both threads take from it.
    behind: deque[UUID]
    began: float = field(default_factory=time.monotonic)
    database: str = field(default_factory=databases.current)
    renew_at: float = 0.0
    is_lost: bool = False
    handed_on: int = 0

    def __post_init__(self) -> None:
        self.renew_at = self.began + self.lease / 3

    def take(self, most: int) -> list[UUID]:
        """Take the first of the rows that have not been started."""
        taken: list[UUID] = []
        with suppress(IndexError):
            while len(taken) < most:
                taken.append(self.behind.popleft())
        return taken

    def put_back(self, ids: Sequence[UUID]) -> None:
        """Make these the first of the rows that have not been started."""
        self.behind.extendleft(reversed(ids))


class _Keeper:
    """The thread, which starts with the first row and sleeps while there are no rows."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._lock = threading.RLock()  # Held during a renewal, so that no claim is renewed after its body has ended.
        self._is_busy = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, held: Held) -> None:
        self._held[id(held)] = held
        if not self._is_busy.is_set():
            self._is_busy.set()
        if self._thread is None or not self._thread.is_alive():  # As in a process that was forked.
            self._begin()

    def remove(self, held: Held) -> None:
        self._held.pop(id(held), None)
        with self._lock:  # Wait for a renewal in progress.
            pass

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._thread.start()

    def _keep(self) -> None:
        while True:
            self._is_busy.wait()
            time.sleep(min([LOOK_EVERY, *(held.lease / 6 for held in list(self._held.values()))]))
            if not self._held:
                self._is_busy.clear()
                if self._held:  # Added meanwhile.
                    self._is_busy.set()
                continue
            try:
                for held in list(self._held.values()):
                    with databases.using(held.database):
                        self._look_after(held)
            except Exception:
                logger.exception("Leases are looked after again.")
            finally:
                connections.close_all()

    def _look_after(self, held: Held) -> None:
        now = time.monotonic()
        if held.behind and now - held.began > LONGEST_WAIT:
            with self._lock:
                behind = held.take(len(held.behind)) if id(held) in self._held else []
                if behind:
                    try:
                        held.handed_on += ledger.hand_on(behind)
                    except BaseException:
                        held.put_back(behind)
                        raise
        if held.row is None or held.is_lost or now < held.renew_at:
            return
        with self._lock:
            if id(held) not in self._held:
                return
            try:
                is_held = ledger.renew(held.row, lease=held.lease)
            except Exception as error:  # noqa: BLE001 - whatever it was: without the claim the effect happens twice
                logger.warning("The claim on %s %s could not be renewed: %r", held.row.name, held.row.id, error)
                held.renew_at = now + min(held.lease / 3, RETRY_PAUSE)
                connection.close()
                return
        held.renew_at = now + held.lease / 3
        if not is_held:
            held.is_lost = True
            logger.warning("The claim on %s %s is lost: cancelled or taken over.", held.row.name, held.row.id)


_keeper = _Keeper()


class LeaseKeeper:
    """
    Renews a claim from a thread while its body runs, so that the lease can be short.

    The thread opens a database connection only if the body is still running after a third of the lease, or if other
    rows wait ``behind`` it in its message: those go back to the ledger after a tenth of a second. A failed renewal is
    retried as long as the body runs, whatever the reason. A stopped process renews nothing: its work is taken over,
    and the process is fenced off when it resumes.
    """

    def __init__(self, row: ledger.Started, lease: float, behind: list[UUID] | None = None) -> None:
        self._held = Held(row, lease, deque(behind or ()))

    def __enter__(self) -> None:
        _keeper.add(self._held)

    def __exit__(self, *_: object) -> None:
        _keeper.remove(self._held)

    @property
    def left(self) -> list[UUID]:
        """The rows behind it that were not given back."""
        return list(self._held.behind)


class MessageKeeper:
    """
    Hands on the rows of a message that have not been started, from a thread, while one of its bodies takes long.

    On SQLite, where nobody else can write while the body's transaction is open, it hands on nothing.
    """

    def __init__(self, ids: Sequence[UUID]) -> None:
        self._held = Held(None, math.inf, deque(ids))

    def __enter__(self) -> Self:
        if connection.vendor == "postgresql":
            _keeper.add(self._held)
        return self

    def __exit__(self, *_: object) -> None:
        _keeper.remove(self._held)

    def __len__(self) -> int:
        return len(self._held.behind)

    def take(self, most: int) -> list[UUID]:
        """Take at most this many rows, to start them."""
        return self._held.take(most)

    def put_back(self, ids: Sequence[UUID]) -> None:
        """Make these the next ones."""
        self._held.put_back(ids)

    def begin(self) -> None:
        """Note that a body is about to run."""
        self._held.began = time.monotonic()

    @property
    def handed_on(self) -> int:
        """How many rows went back to the ledger."""
        return self._held.handed_on
