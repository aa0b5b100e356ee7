"""
A database clock that is set back: due tasks stay due.

All times in the ledger come from the database. A clock set back by two minutes, by hand, by NTP or by a failover to a
server whose clock is behind, would keep all due tasks waiting for two more minutes. A relay compares the clock
with the time elapsed locally; once it detects a step back, everything due by the old time is due now.
"""

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Max, QuerySet
from django.db.models.functions import Least, Now

from celery_ledger import clock, conf
from celery_ledger.databases import atomic, connection
from celery_ledger.models import DurableTask, Heartbeat, QueueLimit, TaskRate
from celery_ledger.watch import canaries

logger = logging.getLogger(__name__)

Status = DurableTask.Status
#: A smaller step back, in seconds, is ignored.
LEAST = 1.0
#: How often processes report that they are running, so that their last report may be this old.
SPEAK_EVERY = timedelta(seconds=5)
#: At most this many rows are changed in one transaction.
PORTION = 5_000


class ClockWatch:
    """Compares the database's clock with the time that has passed since the last check."""

    def __init__(self) -> None:
        self._seen: datetime | None = None
        self._at = 0.0  # By the monotonic clock.

    def look(self) -> None:
        """Detect a step back since the last check, and repair its effects."""
        before = time.monotonic()
        now = clock.now()
        # The check itself takes time, which is accounted for so that it never appears as a step.
        expected = self._expected(now, before)
        self._seen, self._at = now, time.monotonic()
        step = (expected - now).total_seconds()
        if step > LEAST:
            logger.warning("The database's clock was set back by %.0f s. Due tasks stay due.", step)
            mend(expected)

    def _expected(self, now: datetime, at: float) -> datetime:
        """Return the time that the clock should show; a relay that just started infers it from the latest heartbeat."""
        if self._seen is not None:
            return self._seen + timedelta(seconds=at - self._at)
        latest: datetime | None = Heartbeat.objects.aggregate(latest=Max("beaten_at"))["latest"]
        return latest + SPEAK_EVERY if latest and latest - now > timedelta(seconds=LEAST) else now


def mend(until: datetime) -> None:
    """Make everything that was due by ``until``, which the clock had reached before it was set back, due now."""
    was_due = DurableTask.objects.filter(status=Status.PENDING, available_at__gt=Now(), available_at__lte=until)
    _in_portions(was_due, available_at=Now())
    for status, lease in (
        (Status.PUBLISHED, conf.PUBLISHED_LEASE.value),
        (Status.RUNNING, conf.RUNNING_LEASE.value),
    ):
        # No lease is longer than a new one.
        end = Now() + timedelta(seconds=lease)
        leased = DurableTask.objects.filter(lease_until__isnull=False, status=status)
        _in_portions(leased.filter(lease_until__gt=end), lease_until=end, published_at=Least(F("published_at"), Now()))
    for counted in (QueueLimit, TaskRate):
        counted.objects.filter(counted_at__gt=Now()).update(counted_at=Now())
    Heartbeat.objects.filter(beaten_at__gt=Now()).update(beaten_at=Now())
    canaries.start_anew()


def _in_portions(rows: "QuerySet[DurableTask]", **changes: Any) -> None:
    """Update rows that are not locked, a few thousand at a time."""
    while True:
        with atomic():
            free = rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
            ids = list(free.order_by("id").values_list("id", flat=True)[:PORTION])
            DurableTask.objects.filter(id__in=ids).update(**changes)
        if len(ids) < PORTION:
            return
