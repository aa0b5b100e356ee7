"""Schedules of django-celery-beat, each due time enqueued once."""

from django.apps import AppConfig


class BeatConfig(AppConfig):
    name = "celery_ledger.contrib.beat"
    label = "celery_ledger_beat"
    verbose_name = "Schedules of the ledger"

    def ready(self) -> None:
        from django_celery_beat.models import CrontabSchedule

        from celery_ledger import promises
        from celery_ledger.contrib.beat import due_times, lateness
        from celery_ledger.relay import rounds
        from celery_ledger.watch import watchdog

        due_times.know_unknown_zones(CrontabSchedule._meta.get_field("timezone"))
        promises.register("No schedule is late.", due_times.late_lines)
        watchdog.register("schedules", lateness.problems)
        rounds.register("checking schedules", every=lateness.INTERVAL, make=lateness.announce_late_schedules)
