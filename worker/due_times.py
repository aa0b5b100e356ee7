"""
When schedules are due, and which of them are late although nobody may be there to run them.

Called by beat's scheduler, by the relays, by ``outbox verify`` and by the health page: a beat that is away says
nothing itself.
"""

import logging
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from celery import schedules
from django.db.models import QuerySet
from django.utils import timezone
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.models import PeriodicTask

from worker.models import SchedulePolicy

logger = logging.getLogger(__name__)

#: The most due times of one schedule that are made up for after a downtime: the latest ones.
MOST_MISSED: Final = 1_000


def served_schedules() -> "QuerySet[PeriodicTask]":
    """
    Return all schedules that are on, but for solar ones, which are not served and named in the log.

    Their due times need an astronomical package that the project does not have; beat would die of one.
    """
    rows: QuerySet[PeriodicTask] = PeriodicTask.objects.enabled()
    for name in rows.exclude(solar=None).values_list("name", flat=True):
        logger.error("The schedule %r never runs: solar schedules are not served. Give it a crontab.", name)
    return rows.filter(solar=None)


def is_interval(schedule: Any) -> bool:
    """Say whether a schedule is one of even steps, which are counted from the epoch."""
    return type(schedule) is schedules.schedule


def length_of(schedule: Any) -> float:
    """Return the seconds from one due time of an interval to the next."""
    return max(1.0, float(schedule.run_every.total_seconds()))


def times_after(schedule: Any, since: datetime, now: datetime) -> Iterator[datetime]:
    """Yield the due times of a schedule after ``since``, oldest first, past ``now`` and without an end."""
    if is_interval(schedule):
        length = length_of(schedule)
        first = math.floor(since.timestamp() / length) + 1
        first = max(first, math.floor(now.timestamp() / length) - MOST_MISSED)
        yield from (datetime.fromtimestamp(number * length, tz=UTC) for number in count(first))
    elif isinstance(schedule, schedules.crontab):
        time = since.astimezone(schedule.tz)
        while True:
            begin, delta, _ = schedule.remaining_delta(time)
            time = begin + delta
            yield time.astimezone(UTC)
    elif isinstance(schedule, clocked):
        yield schedule.clocked_time.astimezone(UTC)


def counted_from(since: datetime, start: datetime | None) -> datetime:
    """Return after when due times count: ``since``, a schedule's last run or its making, and not before it starts."""
    return max(since, start - timedelta(microseconds=1)) if start else since


def first_after(schedule: Any, since: datetime) -> datetime | None:
    """Return the first due time of a schedule after ``since``, however long ago that is; None: never again."""
    return next(times_after(schedule, since, since), None)


def next_due(row: PeriodicTask) -> datetime | None:
    """Return when a schedule is due after it ran last, which may be over; None: never again."""
    return first_after(row.schedule, counted_from(row.last_run_at or row.date_changed, row.start_time))


def late_schedules() -> Iterator[tuple[str, datetime]]:
    """Yield name and oldest due time of each schedule that did not run within the time its policy allows."""
    now = timezone.now()
    rows = served_schedules().select_related("policy", "interval", "crontab", "clocked").order_by("name")
    for row in rows:
        policy = getattr(row, "policy", None) or SchedulePolicy(schedule_id=row.pk)
        if not policy.alert_after or (row.start_time and row.start_time > now) or (row.expires and row.expires < now):
            continue
        due_at = next_due(row)
        if due_at and now - due_at > timedelta(seconds=policy.alert_after):
            yield row.name, due_at


def late_lines() -> Iterator[str]:
    """Yield a line for each schedule that is late."""
    for name, due_at in late_schedules():
        yield f"{name!r} was due at {due_at:%F %T} UTC and has not run: is a beat there?"
