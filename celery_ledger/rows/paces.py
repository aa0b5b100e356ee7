"""
Run times of tasks, and how many of their rows may ride together: measured by workers, read by relays.

A process collects measurements and writes them twice a second, in a transaction of its own; if it dies, half a second
of measurements is lost. Those of a task that is new to the process are written at once, and then less and less often.
The latest bodies count most. A conflict halves the number of the task's rows that may share a transaction; each slice
without a conflict allows one more.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, Final

from django.db import DatabaseError
from django.db.models import Case, When
from django.db.models.functions import Now

from celery_ledger import conf
from celery_ledger.databases import connection
from celery_ledger.models import Pace
from celery_ledger.rows.sql import PACE_COLUMNS, statements
from celery_ledger.trips import planned

logger = logging.getLogger(__name__)

#: Rows of a task with an unknown pace that share a message.
FIRST = 4
#: After this many bodies, the mean is used.
ENOUGH = 10
#: The mean covers about this many of the latest bodies.
MEMORY = 50
FLUSH_EVERY = 0.5  # seconds
#: The same after a task that is new to the process; doubled with each flush.
FIRST_FLUSHES: Final = 0.02
#: How long a task that met conflicts even in the smallest slice runs alone, in seconds.
ALONE_FOR = 30.0
#: After a success, a task may share its message with this many more rows, or twice as many as before; with only one
#: more if it ever met a conflict.
MOST_GROWTH = 8


@dataclass(frozen=True)
class Known:
    """The measurements of a task."""

    seconds: float
    bodies: int
    riders: float

    @property
    def is_enough(self) -> bool:
        """Whether enough bodies were measured for the mean to be useful."""
        return self.bodies >= ENOUGH

    def rows(self, slice_seconds: float) -> int:
        """Return how many of its rows share a message of ``slice_seconds`` of work; 1: its bodies are too slow."""
        if not self.is_enough:
            return int(min(FIRST, self.riders)) if self.seconds < slice_seconds else 1
        return max(1, int(min(self.riders, slice_seconds / max(self.seconds, 1e-6))))


#: What is known about a task that never ran.
UNKNOWN = Known(0.0, 0, FIRST)


@dataclass
class _Noted:
    bodies: int = 0
    seconds: float = 0.0
    slices: int = 0
    slice_rows: int = 0
    slice_seconds: float = 0.0
    conflicts: int = 0
    #: How many slices with its rows had no conflict.
    rides: int = 0


_noted: dict[str, _Noted] = {}
_lock = threading.Lock()  # In a pool of threads, all of them take notes.
_next_flush = 0.0
_pause = FIRST_FLUSHES
#: Tasks of which this process has written measurements.
_flushed: set[str] = set()


def note_bodies(name: str, bodies: int, seconds: float) -> None:
    """Record the run time of bodies of the task ``name``, or of one body that took this many rows."""
    with _lock:
        noted = _noted.setdefault(name, _Noted())
        noted.bodies += bodies
        noted.seconds += seconds


@contextmanager
def measured(name: str, rows: int = 1) -> Iterator[None]:
    """Measure the run time of the body of task ``name`` in this block, however it ends: by row, if it takes several."""
    began = time.monotonic()
    try:
        yield
    finally:
        note_bodies(name, rows, time.monotonic() - began)


def note_slice(name: str, rows: int, seconds: float) -> None:
    """Record a transaction that rows of the task ``name`` shared."""
    with _lock:
        noted = _noted.setdefault(name, _Noted())
        noted.slices += 1
        noted.slice_rows += rows
        noted.slice_seconds += seconds


def note_rides(names: Collection[str]) -> None:
    """Record that rows of these tasks shared a transaction without waiting for locks."""
    with _lock:
        for name in names:
            _noted.setdefault(name, _Noted()).rides += 1


def note_conflict(name: str) -> None:
    """Record that a row of the task ``name`` waited for a lock, or failed on one, while it shared a transaction."""
    with _lock:
        _noted.setdefault(name, _Noted()).conflicts += 1


def flush_if_due(*, at_once: bool = False) -> None:
    """Write the measurements if it is time, or if a task is new; not in a transaction, and never raising."""
    global _next_flush, _pause
    now = time.monotonic()
    if not _noted or connection.in_atomic_block:
        return
    has_new = not _flushed.issuperset(_noted)
    if now < _next_flush and not has_new and not at_once:
        return
    with _lock:
        _pause = min(FIRST_FLUSHES if has_new else 2 * _pause, FLUSH_EVERY)
        _next_flush = now + _pause
        noted = dict(_noted)
        _noted.clear()
        _flushed.update(noted)
    try:
        _write(noted)
    except DatabaseError as error:
        logger.warning("How long tasks take could not be noted: %s", error)


def _write(noted: dict[str, _Noted]) -> None:
    known = _add(noted)
    if new := noted.keys() - known:
        Pace.objects.bulk_create([Pace(name=name, riders=FIRST) for name in sorted(new)], ignore_conflicts=True)
        _add({name: noted[name] for name in new})


def _add(noted: dict[str, _Noted]) -> set[str]:
    """Add measurements of tasks; return the tasks that already had some."""
    rows = [(name, *astuple(noted[name])) for name in sorted(noted)]
    parameters: dict[str, Any] = {
        "memory": MEMORY,
        "most": float(conf.RIDERS.value),
        "growth": MOST_GROWTH,
        "alone_for": ALONE_FOR,
    }
    if connection.vendor == "postgresql":
        columns = zip(*rows, strict=True)
        parameters |= dict(zip(("names", *PACE_COLUMNS[1:]), map(list, columns), strict=True))
    else:
        parameters["noted"] = json.dumps(rows)
    with planned() as cursor:
        cursor.execute(statements(connection.vendor).pace, parameters)
        return {name for (name,) in cursor.fetchall()}


def known() -> dict[str, Known]:
    """Return the measurements of each task that has run."""
    rows = Pace.objects.annotate(is_alone=Case(When(alone_until__gt=Now(), then=True), default=False))
    return {
        name: Known(seconds, bodies, 1.0 if is_alone else riders)
        for name, seconds, bodies, riders, is_alone in rows.values_list(
            "name", "seconds", "bodies", "riders", "is_alone"
        )
    }


class Company:
    """
    How many rows of a message this process runs in one transaction: halved by a conflict, then growing again.

    This applies to what workers already hold when a conflict is seen; the relay's messages follow. It also allows no
    more than there was time for recently, because rows that a slice leaves out are written twice.
    """

    GROW_EVERY: Final = 0.25  # seconds
    #: How many rows are completed at a time: as many, less one, may wait for a body that takes long.
    FEW: Final = 16
    #: How long only one is, after such a body, in seconds.
    WARY_FOR: Final = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wary_until: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._grows_at: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    def size(self, name: str, rows: int) -> int:
        """Return how many of a message's ``rows`` of the task ``name`` may share a transaction."""
        size = min(rows, self._sizes.get(name, rows))
        fitting = max(2, int(conf.SLICE.value / 1000 / max(self._seconds.get(name, 0.0), 1e-6)))
        return size if size < 1.5 * fitting else fitting

    def note(self, name: str, rows: int, seconds: float) -> None:
        """Record the run time of ``rows`` bodies; a single slow one says little about the next."""
        if rows:
            each = min(seconds / rows, conf.SLICE.value / 4000)
            self._seconds[name] = 0.7 * self._seconds.get(name, each) + 0.3 * each

    def slow(self, name: str) -> None:
        """Record that a body in a message of the task ``name`` took longer than others should wait for it."""
        self._wary_until[name] = self._clock() + self.WARY_FOR

    def few(self, name: str) -> int:
        """Return how many rows of such a message to complete at a time."""
        return 1 if self._clock() < self._wary_until.get(name, 0.0) else self.FEW

    def conflict(self, name: str, rows: int) -> None:
        """Record that one of this number of rows met a conflict."""
        self._sizes[name] = max(1, rows // 2)
        self._grows_at[name] = self._clock() + self.GROW_EVERY

    def success(self, name: str) -> None:
        """Allow one more row, at most four times a second."""
        if name in self._sizes and self._clock() >= self._grows_at[name]:
            self._grows_at[name] = self._clock() + self.GROW_EVERY
            self._sizes[name] += 1
            if self._sizes[name] >= conf.RIDERS.value:
                del self._sizes[name]
