"""
Beat's scheduler: schedules in the database, and each due time enqueued once, whoever enqueues it.

Every due time has a name, and the name is the ledger's ``unique_key``: two beats, or one that was killed
and started again, make one row of it. Intervals are counted from the epoch, so that all beats agree.
What becomes of due times that passed while no beat ran is each schedule's policy; see ``SchedulePolicy``.
"""

import inspect
import math
from collections import deque
from datetime import datetime
from itertools import takewhile
from typing import Any, Final

from celery import schedules
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from worker.due_times import (
    MOST_MISSED,
    counted_from,
    first_after,
    is_interval,
    length_of,
    served_schedules,
    times_after,
)
from worker.models import SchedulePolicy
from worker.signals import schedule_late

#: A due time that passed longer ago counts as missed, in seconds.
GRACE: Final = 60


class LedgerEntry(ModelEntry):
    """A schedule that knows which due times it fires for."""

    def is_due(self) -> schedules.schedstate:
        """Say whether it is due; an interval is due when it passes the next multiple of its length."""
        state = super().is_due()
        if not is_interval(self.schedule) or (state.next == 5.0 and not self.model.enabled):
            return state
        length = length_of(self.schedule)
        now = timezone.now().timestamp()
        passed = math.floor(now / length) > math.floor(self.last_run_at.timestamp() / length)
        return schedules.schedstate(passed and self.model.enabled, length - now % length)

    @property
    def since(self) -> datetime:
        """After when its due times count."""
        return counted_from(self.last_run_at, self.model.start_time)

    def due_times(self) -> list[datetime]:
        """Return the due times since the last run, oldest first, that firing now stands for: one or more."""
        now = timezone.now()
        times = times_after(self.schedule, self.since, now)
        passed = deque(takewhile(lambda time: time <= now, times), maxlen=MOST_MISSED)
        return list(passed) or [self._fires_at_once(now)]

    def _fires_at_once(self, now: datetime) -> datetime:
        """Return what to call a run that beat begins between two due times: a schedule's first, when it starts."""
        start = self.model.start_time
        return start if start and self.last_run_at < start <= now else now.replace(microsecond=0)


class LedgerScheduler(DatabaseScheduler):
    """django-celery-beat's scheduler, firing into the ledger."""

    Entry = LedgerEntry

    def enabled_models_qs(self) -> "QuerySet[PeriodicTask]":
        """
        Return all schedules that are on and served.

        The original leaves out those that are due at another time of the day: what was missed in a
        downtime would be noticed a day late.
        """
        return served_schedules()

    def apply_async(self, entry: LedgerEntry, producer: Any = None, **_: Any) -> Any:
        """Enqueue the entry's task under the names of its due times, as its policy has it."""
        due, oldest = entry.due_times(), first_after(entry.schedule, entry.since)
        policy = SchedulePolicy.of(entry.model)
        late = (timezone.now() - oldest).total_seconds() if oldest else 0
        handle = None
        try:
            with transaction.atomic():
                for time in policy.to_run(due, grace=GRACE):
                    handle = self._enqueue(entry, time)
                if oldest and policy.alert_after and late > policy.alert_after:
                    schedule_late.send_robust(sender=LedgerScheduler, name=entry.name, due_at=oldest.isoformat())
        finally:
            self._tasks_since_sync += 1
            if self.should_sync():
                self._do_sync()
        return handle

    def _enqueue(self, entry: LedgerEntry, due_at: datetime) -> Any:
        """Enqueue one run. A task that takes ``due_at`` is told which due time it runs for."""
        task = self.app.tasks[entry.task]
        kwargs = dict(entry.kwargs)
        if "due_at" in inspect.signature(task.run).parameters:
            kwargs.setdefault("due_at", due_at.isoformat())
        return task.apply_async(
            entry.args,
            kwargs,
            queue=entry.options.get("queue"),
            priority=entry.options.get("priority"),
            unique_key=f"beat:{entry.name}:{due_at.isoformat()}",
        )
