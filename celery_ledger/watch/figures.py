"""
Throughput, failures, lag and run time of each queue and task, over 15 minutes, six hours and seven days.

A relay writes down once a minute what the counts of :mod:`celery_ledger.rows.tally` and the paces say by then. What
happened in a span is the difference of two moments, and so are the buckets of its lags, from which the percentiles
come: they add up. Older moments are thinned, so that there are at most about 450 rows, whatever the ledger keeps.
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
#: Seconds from one look of a relay to the next.
INTERVAL: Final = 20.0
#: By its name, how long a span is, and the seconds from one of its points to the next.
SPANS: Final = {
    "15m": (timedelta(minutes=15), MINUTE),
    "6h": (timedelta(hours=6), 5 * MINUTE),
    "7d": (timedelta(days=7), 60 * MINUTE),
}
#: How old moments are kept, with the seconds from one to the next.
_THINNED: Final = ((timedelta(hours=1), 5 * MINUTE), (timedelta(hours=12), 60 * MINUTE))
_FORGOTTEN_AFTER: Final = timedelta(days=8)
_PERCENTILES: Final = (0.5, 0.95, 0.99)


@dataclass
class Figures:
    """What tasks came to, from the beginning or in a span of time."""

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
        """What a body took on average; None: none ran."""
        return self.body_seconds / self.bodies if self.bodies else None

    def lag(self, share: float) -> float | None:
        """Return the seconds from due to done within which this share of the successes was; None: there were none."""
        total, reached, below = sum(self.buckets), 0, 0.0
        if not total:
            return None
        for rows, bound in zip(self.buckets, LAG_BOUNDS, strict=False):
            if reached + rows >= share * total:
                return below + (bound - below) * (share * total - reached) / rows
            reached, below = reached + rows, bound
        return below  # It was longer than the last bound: at least that.


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
    """What was done from the point before to this one."""

    at: datetime
    succeeded_per_minute: float
    failed_per_minute: float
    lag_p50: float | None
    lag_p95: float | None
    lag_p99: float | None


@dataclass(frozen=True)
class Overview:
    """A span: its points, oldest first, what each queue and task came to, and what people did meanwhile."""

    span: str
    since: datetime | None
    points: list[Point]
    queues: list[Line]
    tasks: list[Line]
    marks: list[Mark]


def now() -> Moment:
    """Return what each task has come to by now."""
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
    # What a body takes is known by its task alone: the queue where most of its tasks are has it.
    for name, (bodies, seconds) in paces.items():
        own = [key for key in moment if key[1] == name]
        if own:
            busiest = moment[max(own, key=lambda key: moment[key].succeeded)]
            busiest.bodies, busiest.body_seconds = bodies, seconds
    return dict(moment)


def take() -> None:
    """Write down the figures of this minute, unless another process has, and thin what is old."""
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
    Return the figures over a span, one of :data:`SPANS`; its points of one queue or task, if so asked.

    Where the first figures are younger than the span, it begins with them.
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
    # Where nothing was written down so far, by a minute and not yet by a step.
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
    """Add up thousands of them, in one go."""
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
