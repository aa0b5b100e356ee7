"""The queues' figures over the last hour or so, for charts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from celery_ledger import clock
from celery_ledger.models import QueueSample
from celery_ledger.watch import samples


@dataclass(frozen=True)
class Point:
    """A queue at one moment, and the work done since the previous moment."""

    at: datetime
    pending: int
    published: int
    running: int
    dead: int
    retrying: int
    oldest_pending_seconds: float | None
    messages: int | None
    completed_per_minute: float
    failed_per_minute: float
    lag_seconds: float | None


@dataclass(frozen=True)
class QueueSeries:
    queue: str
    points: list[Point]


def of_queues(*, minutes: int, step: int) -> list[QueueSeries]:
    """Return each queue's figures over the last ``minutes``, with a point every ``step`` seconds."""
    start = clock.now() - timedelta(minutes=minutes, seconds=step)
    kept: dict[str, dict[int, QueueSample]] = {queue: {} for queue in samples.queue_names()}
    for sample in samples.since(start):
        if sample.queue in kept:
            kept[sample.queue][int(sample.at.timestamp()) // step] = sample  # The last of each step.
    return [
        QueueSeries(queue, [_point(before, after) for before, after in pairwise(by_step.values())])
        for queue, by_step in kept.items()
    ]


def _point(before: QueueSample, after: QueueSample) -> Point:
    minutes = (after.at - before.at).total_seconds() / 60
    completed = max(0, after.succeeded - before.succeeded)
    return Point(
        at=after.at,
        pending=after.pending,
        published=after.published,
        running=after.running,
        dead=after.dead,
        retrying=after.retrying,
        oldest_pending_seconds=after.oldest_pending_seconds,
        messages=after.messages,
        completed_per_minute=round(completed / minutes, 2),
        failed_per_minute=round(max(0, after.failed - before.failed) / minutes, 2),
        lag_seconds=round((after.lag - before.lag) / completed, 4) if completed else None,
    )
