"""The policy of each schedule for due times missed while no beat ran, and its latest runs."""

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone


class SchedulePolicy(models.Model):
    """A schedule's policy for due times missed while no beat ran. Schedules without a row have the default policy."""

    class CatchUp(models.TextChoices):
        #: They are skipped.
        SKIP = "skip"
        #: Only the latest one runs.
        ONCE = "once"
        #: All of them run, up to the latest thousand.
        ALL = "all"

    schedule = models.OneToOneField(
        "django_celery_beat.PeriodicTask", on_delete=models.CASCADE, primary_key=True, related_name="policy"
    )
    catch_up = models.CharField(max_length=4, choices=CatchUp, default=CatchUp.ONCE)
    alert_after = models.PositiveIntegerField(
        default=300, help_text="Seconds after which a due time that has not run is announced as late. 0: never."
    )

    class Meta:
        verbose_name_plural = "schedule policies"

    def __str__(self) -> str:
        return f"catch up: {self.catch_up}"

    @classmethod
    def of(cls, schedule: models.Model) -> "SchedulePolicy":
        """Return the policy of a schedule."""
        return cls.objects.filter(pk=schedule.pk).first() or cls(schedule_id=schedule.pk)

    def to_run(self, due: list[datetime], *, missed_after: float) -> list[datetime]:
        """Return which of the ``due`` times, oldest first, to run; a time is missed after ``missed_after`` seconds."""
        if self.catch_up == self.CatchUp.ALL:
            return due
        missed = timezone.now() - due[-1] > timedelta(seconds=missed_after)
        return [] if missed and self.catch_up == self.CatchUp.SKIP else due[-1:]


class Run(models.Model):
    """One run of a schedule: which task was enqueued for which due time. The latest of each schedule are kept."""

    schedule = models.ForeignKey("django_celery_beat.PeriodicTask", on_delete=models.CASCADE, related_name="runs")
    due_at = models.DateTimeField(help_text="When a person requested the run, if one did.")
    task = models.UUIDField(help_text="The task's id in the ledger.")
    enqueued_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"run {self.task} for {self.due_at}"
