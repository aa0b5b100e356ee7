"""
Tasks that currently fail, since when and with which error: their latest attempts failed, with no success since.

Read from a bounded number of the latest failed attempts and the newest tasks, so that the cost does not depend on the
size of the ledger.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max

from celery_ledger import clock
from celery_ledger.models import DurableTask, FailedAttempt

#: Tasks that failed longer ago than this, and not again since, are not shown.
RECENT = timedelta(minutes=15)
#: Failed attempts, and tasks, that are considered.
MOST_ATTEMPTS, MOST_TASKS = 2_000, 20_000


@dataclass(frozen=True)
class Failing:
    """A failing task: none of its calls is known to have succeeded since ``since``."""

    task: str
    queue: str
    since: datetime
    last_at: datetime
    #: Attempts that have failed since then.
    failed: int
    error: str

    def in_words(self, now: datetime) -> str:
        """Return a description in one sentence."""
        seconds = max(0.0, (now - self.since).total_seconds())
        span = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
        times = "1 attempt" if self.failed == 1 else f"{self.failed} attempts"
        return f"{self.task} has failed for {span}: {times}, and none has succeeded since. {self.error}"


def failing() -> list[Failing]:
    """Return the currently failing tasks, the longest-failing first."""
    latest = FailedAttempt.objects.order_by("-id")
    rows = latest.values_list("task__name", "task__queue", "failed_at", "error")[:MOST_ATTEMPTS]
    start = clock.now() - RECENT
    attempts = [row for row in rows if row[2] >= start]
    succeeded = _last_successes({name for name, *_ in attempts})
    found: dict[str, Failing] = {}
    for name, queue, at, error in attempts:  # The latest first.
        if name in succeeded and at <= succeeded[name]:
            continue
        known = found.get(name)
        found[name] = (
            Failing(name, queue, since=at, last_at=at, failed=1, error=error.splitlines()[0] if error else "")
            if known is None
            else Failing(name, queue, since=at, last_at=known.last_at, failed=known.failed + 1, error=known.error)
        )
    return sorted(found.values(), key=lambda each: each.since)


def _last_successes(names: Iterable[str]) -> dict[str, datetime]:
    """Return when the newest tasks of these names last succeeded."""
    if not names:
        return {}
    ids = DurableTask.objects.order_by("-id").values_list("id", flat=True)
    edge = ids[MOST_TASKS : MOST_TASKS + 1].first()
    newest = DurableTask.objects.filter(name__in=names, status=DurableTask.Status.SUCCEEDED)
    if edge is not None:
        newest = newest.filter(id__gt=edge)
    return dict(newest.order_by().values_list("name").annotate(Max("completed_at")))
