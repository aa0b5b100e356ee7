"""
Throughput, failures, lag and run time of each queue and task, over 15 minutes, six hours and seven days.

Once a minute, a relay records the current counts of :mod:`celery_ledger.rows.tally` and the paces. The figures of a
span are the difference between two such moments, and so are the additive buckets of its lags, from which percentiles
are derived. Older moments are thinned out, so that there are at most about 450 rows, whatever the size of the ledger.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from django.db.models import Sum

from celery_ledger import clock
from celery_ledger.models import FiguresSample, Mark, Pace, Tally
from celery_ledger.rows.sql import LAG_BOUNDS
from celery_ledger.watch import marks

Outcome = Tally.Outcome
MINUTE: Final = 60
#: Seconds between two checks by a relay.
INTERVAL: Final = 20.0
#: By name, the length of a span and the seconds from one of its points to the next.
SPANS: Final = {
    "15m": (timedelta(minutes=15), MINUTE),
    "6h": (timedelta(hours=6), 5 * MINUTE),
    "7d": (timedelta(days=7), 60 * MINUTE),
}
#: From which age on moments are thinned out, with the seconds from one to the next.
_THINNED: Final = ((timedelta(hours=1), 5 * MINUTE), (timedelta(hours=12), 60 * MINUTE))
_FORGOTTEN_AFTER: Final = timedelta(days=8)
_PERCENTILES: Final = (0.5, 0.95, 0.99)


@dataclass
class Figures:
    """The outcomes of tasks, from the beginning or in a span of time."""

    succeeded: int = 0
    retried: int = 0
    dead: int = 0
    #: Successes by lag, one more than there are bounds.
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LAG_BOUNDS) + 1))
    bodies: int = 0
    body_seconds: float = 0.0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.succeeded + other.succeeded,
            self.retried + other.retried,
            self.dead + other.dead,
            [one + two for one, two in zip(self.buckets, other.buckets, strict=True)],
            self.bodies + other.bodies,
            self.body_seconds + other.body_seconds,
        )

    def __sub__(self, other: "Figures") -> "Figures":
        return Figures(
            max(0, self.succeeded - other.succeeded),
            max(0, self.retried - other.retried),
            max(0, self.dead - other.dead),
            [max(0, one - two) for one, two in zip(self.buckets, other.buckets, strict=True)],
            max(0, self.bodies - other.bodies),
            max(0.0, self.body_seconds - other.body_seconds),
        )

    @property
    def failed(self) -> int:
        """Attempts that failed."""
        return self.retried + self.dead

    @property
    def run_seconds(self) -> float | None:
        """The average run time of a body; None: none ran."""
        return self.body_seconds / self.bodies if self.bodies else None

    def lag(self, share: float) -> float | None:
        """Return the seconds from due to done within which this share of tasks succeeded; None: none succeeded."""
        total, reached, below = sum(self.buckets), 0, 0.0
        if not total:
            return None
        for rows, bound in zip(self.buckets, LAG_BOUNDS, strict=False):
            if reached + rows >= share * total:
                return below + (bound - below) * (share * total - reached) / rows
            reached, below = reached + rows, bound
        return below  # The lag exceeds the last bound, so it is at least that.


#: By queue and task.
Moment = dict[tuple[str, str], Figures]


@dataclass(frozen=True)
class Line:
    """A queue, or a task of a queue, over a span."""

    queue: str
    task: str
    succeeded: int
    failed: int
    retried: int
    dead: int
    per_minute: float
    lag_p50: float | None
    lag_p95: float | None
    lag_p99: float | None
    run_seconds: float | None


@dataclass(frozen=True)
class Point:
    """The work done between the previous point and this one."""

    at: datetime
    succeeded_per_minute: float
    failed_per_minute: float
    lag_p50: float | None
    lag_p95: float | None
    lag_p99: float | None


@dataclass(frozen=True)
class Overview:
    """A span: its points, oldest first, the figures of each queue and task, and the actions of people meanwhile."""

    span: str
    since: datetime | None
    points: list[Point]
    queues: list[Line]
    tasks: list[Line]
    marks: list[Mark]


def now() -> Moment:
    """Return the figures of each task up to now."""
    counts = Tally.objects.filter(outcome__in=[Outcome.SUCCEEDED, Outcome.RETRIED, Outcome.DEAD])
    moment: Moment = defaultdict(Figures)
    for queue, name, outcome, bucket, rows in counts.values_list("queue", "name", "outcome", "bucket").annotate(
        Sum("rows")
    ):
        figures = moment[queue, name]
        if outcome == Outcome.SUCCEEDED:
            figures.succeeded += rows
            figures.buckets[min(bucket, len(LAG_BOUNDS))] += rows
        elif outcome == Outcome.RETRIED:
            figures.retried += rows
        else:
            figures.dead += rows
    paces = {
        name: (bodies, seconds) for name, bodies, seconds in Pace.objects.values_list("name", "bodies", "body_seconds")
    }
    # Run times are known per task only: they are assigned to the queue where most of its tasks ran.
    for name, (bodies, seconds) in paces.items():
        own = [key for key in moment if key[1] == name]
        if own:
            busiest = moment[max(own, key=lambda key: moment[key].succeeded)]
            busiest.bodies, busiest.body_seconds = bodies, seconds
    return dict(moment)


def take() -> None:
    """Record the figures of this minute, unless another process has, and thin out old ones."""
    at = _floor(clock.now(), MINUTE)
    if FiguresSample.objects.filter(at=at).exists():
        return
    packed = [
        [queue, name, each.succeeded, each.retried, each.dead, each.buckets, each.bodies, round(each.body_seconds, 3)]
        for (queue, name), each in sorted(now().items())
    ]
    FiguresSample.objects.bulk_create([FiguresSample(at=at, figures=packed)], ignore_conflicts=True)
    for age, step in _THINNED:
        kept = FiguresSample.objects.filter(at__lt=at - age).values_list("at", flat=True)
        FiguresSample.objects.filter(at__in=[each for each in kept if each != _floor(each, step)]).delete()
    FiguresSample.objects.filter(at__lt=at - _FORGOTTEN_AFTER).delete()
    Mark.objects.filter(at__lt=at - _FORGOTTEN_AFTER).exclude(kind=Mark.Kind.RELEASE).delete()


def overview(span: str, *, queue: str | None = None, task: str | None = None) -> Overview:
    """
    Return the figures over a span, one of :data:`SPANS`; its points for a single queue or task if requested.

    If the first figures are more recent than the start of the span, the span starts with them.
    """
    length, step = SPANS[span]
    at = clock.now()
    moments = [*_taken(at - length, step), (at, now())]
    first, last = moments[0][1], moments[-1][1]
    minutes = max(1 / MINUTE, (at - moments[0][0]).total_seconds() / MINUTE)
    lines = [_line(*key, last[key] - first.get(key, Figures()), minutes) for key in sorted(last)] if moments[1:] else []
    by_queue: defaultdict[str, Figures] = defaultdict(Figures)
    for key in sorted(last):
        by_queue[key[0]] += last[key] - first.get(key, Figures())
    return Overview(
        span=span,
        since=moments[0][0] if moments[1:] else None,
        points=_points(moments, queue, task),
        queues=[_line(name, "", figures, minutes) for name, figures in by_queue.items()] if moments[1:] else [],
        tasks=[line for line in lines if line.succeeded or line.failed],
        marks=list(marks.since(at - length)),
    )


def _taken(start: datetime, step: int) -> list[tuple[datetime, Moment]]:
    """Return the moments of a span, oldest first, and the last one before it."""
    rows = FiguresSample.objects.filter(at__gte=start - timedelta(seconds=step)).order_by("at")
    times = [each for each in rows.values_list("at", flat=True) if each == _floor(each, step)]
    # If only the first minutes have been recorded, and not yet a full step.
    times = times or list(rows.values_list("at", flat=True)[:1])
    return [
        (row.at, {(queue, name): Figures(*numbers) for queue, name, *numbers in row.figures})
        for row in FiguresSample.objects.filter(at__in=times).order_by("at")
    ]


def _points(moments: Sequence[tuple[datetime, Moment]], queue: str | None, task: str | None) -> list[Point]:
    sums = [
        (at, _sum(each for (of, name), each in moment.items() if queue in {None, of} and task in {None, name}))
        for at, moment in moments
    ]
    points = []
    for (before_at, before), (at, after) in pairwise(sums):
        done, minutes = after - before, max(1 / MINUTE, (at - before_at).total_seconds() / MINUTE)
        points.append(
            Point(at, round(done.succeeded / minutes, 2), round(done.failed / minutes, 2), *_lags(done)),
        )
    return points


def _line(queue: str, task: str, figures: Figures, minutes: float) -> Line:
    return Line(
        queue,
        task,
        figures.succeeded,
        figures.failed,
        figures.retried,
        figures.dead,
        round(figures.succeeded / minutes, 2),
        *_lags(figures),
        figures.run_seconds,
    )


def _lags(figures: Figures) -> tuple[float | None, float | None, float | None]:
    p50, p95, p99 = (figures.lag(share) for share in _PERCENTILES)
    return p50, p95, p99


def _sum(figures: Iterable[Figures]) -> Figures:
    """Add up thousands of figures in a single pass."""
    rows = [
        (each.succeeded, each.retried, each.dead, each.bodies, each.body_seconds, *each.buckets) for each in figures
    ]
    if not rows:
        return Figures()
    succeeded, retried, dead, bodies, seconds, *buckets = map(sum, zip(*rows, strict=True))
    return Figures(succeeded, retried, dead, buckets, bodies, seconds)


def _floor(at: datetime, seconds: int) -> datetime:
    stamp = at.timestamp()
    return datetime.fromtimestamp(stamp - stamp % seconds, tz=UTC)
