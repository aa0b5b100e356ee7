"""
Rate limits of tasks, enforced by all relays together before they publish; no worker waits for them.

A relay that claims rows of a task with a rate limit keeps the rate's row locked meanwhile. Tasks without a rate cost
nothing here.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from time import monotonic

from celery import Celery

from celery_ledger import clock
from celery_ledger.databases import atomic
from celery_ledger.models import TaskRate
from celery_ledger.relay.places import Places
from celery_ledger.relay.reach import Reach
from celery_ledger.rows import ledger, rates
from celery_ledger.rows.ledger import Claimed

logger = logging.getLogger(__name__)

#: The burst that a rate allows after a pause, in seconds' worth of tasks; at least one task.
BURST = 0.2
#: How much may wait at the broker for workers, in seconds' worth: without this limit, all of it would start at once
#: when workers arrive.
AT_THE_BROKER = 10.0
#: Seconds that one turn of a relay spends on holding rows back.
LONGEST_HOLDING = 0.5
#: Seconds until a retry for a task that its rate allows to start, but none of whose rows could be taken.
LOOK_AGAIN = 0.2


class Rates:
    """The rates of an app's tasks, and which of them have waiting rows."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._rates: dict[str, float] = {}
        self._held: dict[str, float] = {}  # tasks with waiting rows, and when the next may go, by the monotonic clock
        self._strange: set[str] = set()
        self.places = Places(app)
        self.reach = Reach()

    def look(self) -> None:
        """Update the limits, and release rows that wait for a limit that no longer exists."""
        self.places.look()
        said = {
            name: task.rate_limit
            for name, task in self.app.tasks.items()
            if getattr(task, "durable", False) and task.rate_limit
        }
        said |= rates.changed()
        if self.app.conf.worker_disable_rate_limits:
            said = {}
        found = {name: self._read(name, words) for name, words in said.items() if name not in self.places.sizes}
        self._rates = {name: rate for name, rate in found.items() if rate}
        held = rates.names_held()
        if lifted := [name for name in held if name not in self._rates and name not in self.places.sizes]:
            with atomic():
                rates.let_go(lifted)
            self.reach.forget()  # They became due long ago.
        self._held = {name: self._held.get(name, 0.0) for name in held if name in self._rates}

    def are_kept_for(self, names: Iterable[str]) -> bool:
        """Whether a task of one of these names has a rate, or a limit by key."""
        return any(name in self._rates or name in self.places.sizes for name in names)

    def pause(self) -> float:
        """Return the seconds until a waiting row may go."""
        return min(max(0.0, min(self._held.values(), default=math.inf) - monotonic()), self.places.pause())

    def claim(self, rooms: Mapping[str, int], *, lease: float, limit: int) -> list[Claimed]:
        """Claim as :func:`ledger.claim` does, but take only as many rows of a limited task as its limit allows now."""
        if not self._rates and not self.places.sizes:
            return self._claim_in_reach(rooms, lease=lease, limit=limit)
        until = monotonic() + LONGEST_HOLDING
        while True:
            with atomic():
                rows, held = self._claim_once(rooms, lease=lease, limit=limit)
                rows += self.places.claim(_left(rooms, rows), lease=lease, most=limit - len(rows))
            if rows or not held or monotonic() > until:
                return rows  # Otherwise, other rows may be due behind those that were held back.

    def _claim_in_reach(self, rooms: Mapping[str, int], *, lease: float, limit: int) -> list[Claimed]:
        rows = ledger.claim(rooms, lease=lease, limit=limit, back=self.reach.begin(rooms))
        self.reach.note(rooms, (row.queue for row in rows), limit=limit)
        return rows

    def _claim_once(self, rooms: Mapping[str, int], *, lease: float, limit: int) -> tuple[list[Claimed], int]:
        """Return the rows that may go, and how many were held back."""
        rows = self._claim_in_reach(rooms, lease=lease, limit=limit)
        due = len(rows)
        rows = self.places.hold_back(rows)
        limited: defaultdict[str, list[Claimed]] = defaultdict(list)
        for row in rows:
            if row.name in self._rates:
                limited[row.name].append(row)
        now = monotonic()
        for name in sorted(limited.keys() | {name for name, at in self._held.items() if at <= now}):
            others = [row for row in rows if row.name != name]
            rows = others + self._claim(name, limited[name], _left(rooms, others), lease=lease)
        return rows, due - len(rows)

    def _claim(self, name: str, due: list[Claimed], rooms: Mapping[str, int], *, lease: float) -> list[Claimed]:
        """Return the due or waiting rows of a task that may go now; hold back the others."""
        rate, now = self._rates[name], clock.now()
        TaskRate.objects.get_or_create(name=name)
        kept = TaskRate.objects.select_for_update().get(name=name)
        passed = max(0.0, (now - kept.counted_at).total_seconds())
        allowance = min(max(1.0, rate * BURST), kept.allowance + passed * rate)
        at_the_broker = rates.count_published(name) - len(due)
        allowed = max(0, min(int(allowance), math.ceil(rate * AT_THE_BROKER) - at_the_broker))
        ids = [row.id for row in due]
        if len(due) <= allowed and name not in self._held:
            rates.note_begun(ids)
            begun = due
        else:
            if due:
                rates.hold(name, ids, per_second=rate)
                self._held.setdefault(name, 0.0)
            begun = rates.claim_held(name, rooms, most=allowed, lease=lease) if allowed else []
        if begun:
            kept.allowance, kept.counted_at = allowance - len(begun), now
            kept.save(update_fields=["allowance", "counted_at"])
        if name in self._held:
            missing = 1.0 - (allowance - len(begun))
            pause = missing / rate if missing > 0 else LOOK_AGAIN
            self._held[name] = monotonic() + pause
        return begun

    def _read(self, name: str, words: object) -> float:
        try:
            return rates.per_second(words)
        except ValueError as error:
            if name not in self._strange:
                self._strange.add(name)
                logger.error("The rate_limit of %s is invalid and ignored: %s", name, error)
            return 0.0


def _left(rooms: Mapping[str, int], rows: Iterable[Claimed]) -> dict[str, int]:
    """Return the room that these rows leave in each queue."""
    left = dict(rooms)
    for row in rows:
        left[row.queue] -= 1
    return left
