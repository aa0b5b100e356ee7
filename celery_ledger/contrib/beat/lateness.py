"""Schedules that are late or can never run. Relays and the watchdog report them, because a missing beat cannot."""

from django.db import transaction

from celery_ledger.contrib.beat import due_times
from celery_ledger.contrib.beat.models import SchedulePolicy
from celery_ledger.signals import schedule_late
from celery_ledger.watch.watchdog import Problem

#: Seconds between two checks by a relay.
INTERVAL = 30.0


def problems() -> list[Problem]:
    """Return schedules that can never run, and schedules that are later than their policy allows."""
    return [Problem("schedules", line) for line in (*due_times.broken_lines(), *due_times.late_lines())]


def announce_late_schedules() -> None:
    """Announce late schedules by :data:`celery_ledger.signals.schedule_late`."""
    for name, due_at in due_times.late_schedules():
        with transaction.atomic():
            schedule_late.send_robust(sender=SchedulePolicy, name=name, due_at=due_at.isoformat())
