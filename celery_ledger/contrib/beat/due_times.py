"""
Due times of schedules, late schedules (whether or not a beat is running), and schedules that can never run.

Called by beat's scheduler, the relays, ``outbox verify``, the admin and the health page, because a beat that is down
cannot report itself. A schedule whose times cannot be computed is reported as a problem and affects no other schedule.
"""

import json
import math
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count, takewhile
from typing import Any, Final

from celery import schedules
from django.utils import timezone
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.models import PeriodicTask

from celery_ledger.contrib.beat.models import SchedulePolicy

#: The most missed due times of one schedule that are made up for after a downtime, latest first.
MOST_MISSED: Final = 1_000
#: How far ahead to look for a sunrise where the sun does not rise, and the step of that search.
_YEAR: Final = timedelta(days=370)
_STEP: Final = timedelta(minutes=1)
#: How far ahead a first due time may be; beyond that, years no longer have four digits.
_LONGEST: Final = 100 * 365 * 24 * 3600.0  # seconds


class UnknownZone(tzinfo):
    """A timezone that this machine does not know: it has a name, but no known offset."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        raise ValueError(f"there is no timezone {self.name!r}")

    def dst(self, at: datetime | None) -> timedelta | None:
        return None

    def tzname(self, at: datetime | None) -> str | None:
        return self.name


def know_unknown_zones(field: Any) -> None:
    """
    Make a crontab's timezone field read names that this machine does not know as :class:`UnknownZone`.

    Otherwise one such row would break every query that reads it, including the admin page on which it could be
    corrected.
    """
    usual, to_python = field.from_db_value, field.to_python

    def from_db_value(value: Any, *arguments: Any) -> Any:
        try:
            return usual(value, *arguments)
        except Exception:  # noqa: BLE001 - whatever its zone database raises
            return UnknownZone(str(value))

    field.from_db_value = from_db_value
    field.to_python = lambda value: value if isinstance(value, UnknownZone) else to_python(value)


def served_schedules() -> tuple[list[PeriodicTask], dict[str, str]]:
    """Return all enabled schedules that can run, and the problem of each of the others, by name."""
    rows = PeriodicTask.objects.enabled().select_related("policy", "interval", "crontab", "clocked", "solar")
    sound, broken = [], {}
    for row in rows.order_by("name"):
        if problem := problem_with(row):
            broken[row.name] = problem
        else:
            sound.append(row)
    return sound, broken


def problem_with(row: PeriodicTask) -> str | None:
    """Describe what prevents a schedule from running: impossible times, or arguments that its task refuses."""
    if row.scheduler is None:
        return "it has no due times. Set a crontab or an interval."
    if problem := problem_with_times(row.scheduler):
        return problem
    for what, kind in (("args", list), ("kwargs", dict)):
        try:
            value = json.loads(getattr(row, what) or kind().__repr__())
        except ValueError as error:
            return f"its {what} are not JSON: {error}."
        if not isinstance(value, kind):
            return f"its {what} are not a JSON {'array' if kind is list else 'object'}."
    return None


def problem_with_times(times: Any) -> str | None:
    """Describe why a crontab, an interval or a moment has no due time; None: it has one."""
    now = timezone.now()
    if getattr(times, "every", 1) < 1:
        return f"its interval is {times.every} {times.period}. Make it 1 or more."
    try:
        due_at = first_after(times.schedule, now)
        too_far = due_at is None or (due_at - now).total_seconds() > _LONGEST
    except RuntimeError:
        return "it is never due: there is no such day."
    except ModuleNotFoundError as error:
        return f"its due times cannot be computed without the package {error.name}: pip install 'celery[solar]'."
    except Exception as error:  # noqa: BLE001 - Celery raises what it likes
        return f"its due times cannot be computed: {' '.join(str(error).split())}."
    return "its next due time is too far ahead." if too_far else None


def is_interval(schedule: Any) -> bool:
    """Whether a schedule has equal steps, counted from the epoch."""
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
    elif isinstance(schedule, schedules.solar):
        yield from _times_of_the_sun(schedule, since)
    elif isinstance(schedule, clocked):
        yield schedule.clocked_time.astimezone(UTC)


def _times_of_the_sun(schedule: schedules.solar, since: datetime) -> Iterator[datetime]:
    """
    Yield each sunrise, or other solar event of the schedule, rounded down to the second, until a year has none.

    Celery itself would also run a schedule once a day while the sun does not rise.
    """
    start, found_at = since.astimezone(UTC), since
    while start - found_at < _YEAR:
        try:
            time = _next_of_the_sun(schedule, start)
        except schedule.ephem.CircumpolarError:
            # Celery does the same: it looks again on the next day.
            start = _as_utc(schedule.cal.next_antitransit(schedule.ephem.Sun(), start=start)) + _STEP
            continue
        # Computed from another starting point it differs by milliseconds, and two beats must give one time the same
        # name.
        with suppress(schedule.ephem.CircumpolarError):
            time = _next_of_the_sun(schedule, time.replace(minute=0, second=0, microsecond=0))
        time = time.replace(microsecond=0)
        if time > found_at:
            yield time
            found_at = time
        start = max(start, time) + _STEP


def _next_of_the_sun(schedule: schedules.solar, start: datetime) -> datetime:
    look = getattr(schedule.cal, schedule.method)
    centre = {"use_center": True} if schedule.use_center else {}
    return _as_utc(look(schedule.ephem.Sun(), start=start, **centre))


def _as_utc(date: Any) -> datetime:
    moment: datetime = date.datetime()
    return moment.replace(tzinfo=UTC)


def counted_from(since: datetime, start: datetime | None) -> datetime:
    """Return the time from which due times count: the later of ``since`` and the schedule's start."""
    return max(since, start - timedelta(microseconds=1)) if start else since


def first_after(schedule: Any, since: datetime) -> datetime | None:
    """Return the first due time of a schedule after ``since``, however long ago; None: it is never due again."""
    return next(times_after(schedule, since, since), None)


def next_due(row: PeriodicTask) -> datetime | None:
    """Return the next due time of a schedule after its last run, possibly in the past; None: never again."""
    return first_after(row.schedule, counted_from(_last_run(row, timezone.now()), row.start_time))


def passed(row: PeriodicTask, now: datetime) -> list[datetime]:
    """Return the due times of a schedule since its last run, oldest first: the latest thousand."""
    schedule, start = row.schedule, row.start_time
    until = min(now, row.expires - timedelta(microseconds=1)) if row.expires else now
    if start and start > now:
        return []
    last = _last_run(row, now)
    times = times_after(schedule, counted_from(last, start), until)
    found = list(deque(takewhile(lambda time: time <= until, times), maxlen=MOST_MISSED))
    if not found and start and last < start <= until:
        first = first_after(schedule, last)
        if row.last_run_at is None or (first and first < start):
            return [start]  # What was due before the start runs at the start.
    return found


def _last_run(row: PeriodicTask, now: datetime) -> datetime:
    """Return the last run, or creation, of a schedule. A time in the future comes from a clock that was wrong."""
    last: datetime = row.last_run_at or row.date_changed
    return min(last, now)


def late_schedules() -> Iterator[tuple[str, datetime]]:
    """Yield name and oldest due time of each schedule that is later than its policy allows."""
    now = timezone.now()
    sound, _ = served_schedules()
    for row in sound:
        policy = getattr(row, "policy", None) or SchedulePolicy(schedule_id=row.pk)
        if not policy.alert_after or (row.start_time and row.start_time > now) or (row.expires and row.expires < now):
            continue
        due_at = next_due(row)
        if due_at and now - due_at > timedelta(seconds=policy.alert_after):
            yield row.name, due_at


def late_lines() -> Iterator[str]:
    """Yield a line for each late schedule."""
    for name, due_at in late_schedules():
        yield f"{name!r} was due at {due_at:%F %T} UTC and has not run: is a beat running?"


def broken_lines() -> Iterator[str]:
    """Yield a line for each enabled schedule that can never run."""
    _, broken = served_schedules()
    for name, problem in broken.items():
        yield f"{name!r} never runs: {problem}"
