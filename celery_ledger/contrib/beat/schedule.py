"""
Beat's scheduler: schedules in the database, with each due time enqueued once for any number of beats.

Every due time has a name, and the name is the ledger's ``unique_key``: two beats, or one that was killed
and started again, make one row of it. Intervals are counted from the epoch, so that all beats agree.
What happens to due times that passed while no beat ran is each schedule's policy; see ``SchedulePolicy``.

Beat keeps no state: it reads the schedules at every turn, and it enqueues a task and records the run in one
transaction. So whenever the database fails, a due time is either done or still due.
"""

import logging
import os
import time
from datetime import datetime
from typing import Any, Final

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections, transaction
from django.db.models import F
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from celery_ledger import databases
from celery_ledger.contrib.beat import due_times, runs
from celery_ledger.contrib.beat.models import SchedulePolicy
from celery_ledger.models import Heartbeat
from celery_ledger.signals import schedule_late
from celery_ledger.watch import heartbeats

logger = logging.getLogger(__name__)

#: A due time that passed longer ago counts as missed, in seconds.
MISSED_AFTER: Final = 60
#: Seconds to wait after a turn that failed on the database.
DATABASE_PAUSE: Final = 1.0
#: Seconds between two heartbeats.
HEARTBEAT_EVERY: Final = 5.0


class LedgerScheduler(DatabaseScheduler):
    """Enqueues the schedules of django-celery-beat in the ledger. No schedule, and no outage, ends it."""

    _lacks_defaults = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._named: dict[str, str] = {}  # Problems that are already logged, by schedule.
        self._database_is_away = False
        self._next_word: float | None = None
        super().__init__(*arguments, **options)

    def setup_schedule(self) -> None:
        """Defer Celery's own schedules to the first turn that reaches a database."""
        self._lacks_defaults = True

    def update_from_dict(self, mapping: Any) -> None:
        """Write the schedules that are defined in code."""
        for name, fields in mapping.items():
            ModelEntry.from_entry(name, app=self.app, **fields)

    def tick(self, **_: Any) -> float:
        """Enqueue due tasks, and return the seconds until the next due time or the next check."""
        with databases.using(runs.ledger()):
            return self._turn(connections[runs.database()])

    def _turn(self, connection: Any) -> float:
        try:
            close_old_connections()
            if self._lacks_defaults:
                self.install_default_entries({})
                self._lacks_defaults = False
            self._say_if_due()
            sound, broken = due_times.served_schedules()
            problems = {name: f"never runs: {problem}" for name, problem in broken.items()}
            pause = min(float(self.max_interval), HEARTBEAT_EVERY)
            for row in sound:
                try:
                    pause = min(pause, self._serve(row))
                except Exception as error:
                    if isinstance(error, DatabaseError) and not connection.is_usable():
                        raise
                    logger.debug("What keeps %r:", row.name, exc_info=True)
                    problems[row.name] = f"could not be enqueued; retrying: {error}"
        except DatabaseError as error:
            if not self._database_is_away:
                logger.warning("The database is unavailable; beat is waiting for it: %s", error)
            self._database_is_away = True
            connection.close()
            return DATABASE_PAUSE
        except Exception:
            logger.exception("A turn of beat failed; beat continues.")
            return float(self.max_interval)
        if self._database_is_away:
            logger.info("The database is back.")
            self._database_is_away = False
        self._name(problems)
        return pause

    def sync(self) -> None:
        """Do nothing: every run is written when it happens."""

    def close(self) -> None:
        """Report that this beat stops as intended."""
        try:
            with databases.using(runs.ledger()):
                heartbeats.end(Heartbeat.Kind.BEAT)
        except DatabaseError as error:
            logger.warning("The database is unavailable; beat stops without recording it: %s", error)

    def _say_if_due(self) -> None:
        """
        Report that this beat is running, if a report is due.

        Raises:
            SystemExit: an operator asked it to stop.
        """
        now = time.monotonic()
        if self._next_word is None:
            heartbeats.begin(Heartbeat.Kind.BEAT)
        elif now < self._next_word:
            return
        self._next_word = now + HEARTBEAT_EVERY
        memory = heartbeats.memory_of([os.getpid()])
        if heartbeats.beat(Heartbeat.Kind.BEAT, memory=memory) == Heartbeat.Wish.STOP:
            logger.info("An operator has stopped this beat.")
            raise SystemExit(0)

    def _name(self, problems: dict[str, str]) -> None:
        """Log each problem once while it lasts."""
        for name, problem in problems.items():
            if self._named.get(name) != problem:
                logger.error("The schedule %r %s", name, problem)
        self._named = problems

    def _serve(self, row: PeriodicTask) -> float:
        """Run a schedule if it is due, and return the seconds until it is again."""
        now = timezone.now()
        if row.last_run_at and (row.last_run_at - now).total_seconds() > MISSED_AFTER:
            # The time was written by a clock that was wrong; nothing would be due until then.
            PeriodicTask.objects.filter(pk=row.pk, last_run_at=row.last_run_at).update(last_run_at=now)
            row.last_run_at = now
        if due_times.passed(row, now) or (row.expires and row.expires <= now):
            with transaction.atomic(using=runs.database()):
                self._run(row.pk, now)
            due_at = due_times.first_after(row.schedule, now)
        else:
            due_at = due_times.next_due(row)
        if row.start_time and row.start_time > now:
            due_at = row.start_time
        return max(0.0, (due_at - timezone.now()).total_seconds()) if due_at else self.max_interval

    def _run(self, pk: int, now: datetime) -> None:
        """
        Enqueue a schedule's task for its due times, according to its policy, and record the run.

        Decided by what the database says now: another beat may have run it, or a person may have switched it off.
        """
        row = PeriodicTask.objects.select_for_update().filter(pk=pk, enabled=True).first()
        if row is None:
            return
        if due := due_times.passed(row, now):
            policy = SchedulePolicy.of(row)
            for time in policy.to_run(due, missed_after=MISSED_AFTER):
                runs.enqueue(self.app, row, time)
            oldest = due_times.next_due(row)  # Regardless of how long ago that is.
            late = (now - oldest).total_seconds() if oldest else 0
            if oldest and policy.alert_after and late > policy.alert_after:
                schedule_late.send_robust(sender=LedgerScheduler, name=row.name, due_at=oldest.isoformat())
            changes: dict[str, Any] = {"last_run_at": now, "total_run_count": F("total_run_count") + 1}
        else:
            changes = {}
        if (row.expires and row.expires <= now) or (due and (row.one_off or row.clocked_id)):
            # Like django-celery-beat, for a schedule that has ended: switched on again, it counts from then.
            changes = {"enabled": False, "last_run_at": None, "total_run_count": 0}
        if changes:
            PeriodicTask.objects.filter(pk=pk).update(**changes)
