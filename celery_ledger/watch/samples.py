"""
The queues' figures over time, for charts: one row per queue every ten seconds.

Taken by the relays, once per moment regardless of the number of relays. Kept for a day.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Min
from django.db.models.functions import Now

from celery_ledger import clock
from celery_ledger.models import DurableTask, Heartbeat, QueueSample, Tally
from celery_ledger.project import find_app
from celery_ledger.rows import tally
from celery_ledger.watch import heartbeats

Status = DurableTask.Status
Outcome = Tally.Outcome
INTERVAL = 10  # seconds
KEPT = timedelta(days=1)


@dataclass(frozen=True)
class OpenTasks:
    """How many tasks of a queue are not done. ``oldest_pending_seconds`` counts from when the oldest was due."""

    pending: int = 0
    published: int = 0
    running: int = 0
    dead: int = 0
    #: How many of the pending tasks failed before and are waiting for a retry.
    retrying: int = 0
    oldest_pending_seconds: float | None = None


def queue_names() -> list[str]:
    """
    Return every queue of the project's Celery app, in the app's order, followed by any others that relays serve.

    If ``task_create_missing_queues`` is on, which is the default, those are the queues that waiting tasks name.
    """
    app = find_app()
    own = list(app.amqp.queues)
    if not app.conf.task_create_missing_queues:
        return own
    served = heartbeats.at_work(Heartbeat.Kind.RELAY).values_list("queues", flat=True)
    return own + sorted({queue for queues in served for queue in queues} - set(own))


def open_by_task() -> list[tuple[str, str, str, int]]:
    """
    Return queue, name and status of the tasks that are not done, and how many there are.

    Each query reads one of the partial indexes, so completed tasks cost nothing.
    """
    pending = DurableTask.objects.filter(status=Status.PENDING)
    leased = DurableTask.objects.filter(lease_until__isnull=False, status__in=[Status.PUBLISHED, Status.RUNNING])
    dead = DurableTask.objects.filter(status=Status.DEAD).order_by().values_list("queue", "name")
    found = [
        row
        for rows in (pending, leased)
        for row in rows.order_by().values_list("queue", "name", "status").annotate(Count("id"))
    ]
    # Dead tasks are kept, so only their index is read, which contains neither status nor id.
    return found + [(queue, name, str(Status.DEAD), rows) for queue, name, rows in dead.annotate(rows=Count("*"))]


def retrying_by_task() -> list[tuple[str, str, int]]:
    """Return queue and name of the tasks that failed and are waiting for a retry, and how many there are."""
    pending = DurableTask.objects.filter(status=Status.PENDING, attempts__gt=0)
    return list(pending.order_by().values_list("queue", "name").annotate(Count("id")))


def oldest_due() -> dict[str, float]:
    """Return for how many seconds the longest due pending task of each queue has been due; no entry: none is."""
    due = DurableTask.objects.filter(status=Status.PENDING, available_at__lte=Now())
    rows = due.order_by().values("queue").annotate(oldest=Min("available_at"), now=Now())
    return {row["queue"]: (row["now"] - row["oldest"]).total_seconds() for row in rows}


def open_tasks() -> dict[str, OpenTasks]:
    """Return how many tasks of each queue are currently not done."""
    figures: dict[str, Counter[str]] = {queue: Counter() for queue in queue_names()}
    for queue, _, status, rows in open_by_task():
        figures.setdefault(queue, Counter())[status] += rows
    for queue, _, rows in retrying_by_task():
        figures.setdefault(queue, Counter())["retrying"] += rows
    oldest = oldest_due()
    return {queue: OpenTasks(**counts, oldest_pending_seconds=oldest.get(queue)) for queue, counts in figures.items()}


def take(messages: Mapping[str, int | None]) -> None:
    """
    Record the current figures, unless another process has, and delete those that are a day old.

    ``messages`` says how many wait at the broker in each queue.
    """
    at = _moment(clock.now())
    if QueueSample.objects.filter(at=at).exists():
        return
    totals = tally.totals_by_queue()
    QueueSample.objects.bulk_create(
        (
            QueueSample(
                at=at,
                queue=queue,
                pending=figures.pending,
                published=figures.published,
                running=figures.running,
                dead=figures.dead,
                retrying=figures.retrying,
                oldest_pending_seconds=figures.oldest_pending_seconds,
                messages=messages.get(queue),
                succeeded=totals.get((queue, Outcome.SUCCEEDED), (0, 0.0))[0],
                failed=sum(totals.get((queue, outcome), (0, 0.0))[0] for outcome in (Outcome.RETRIED, Outcome.DEAD)),
                lag=totals.get((queue, Outcome.SUCCEEDED), (0, 0.0))[1],
            )
            for queue, figures in open_tasks().items()
        ),
        ignore_conflicts=True,
    )
    QueueSample.objects.filter(at__lt=at - KEPT).delete()


def since(start: datetime) -> Sequence[QueueSample]:
    """Return the samples from ``start`` on, oldest first."""
    return list(QueueSample.objects.filter(at__gte=start).order_by("at", "queue"))


def latest(*, before: datetime) -> dict[str, QueueSample]:
    """Return each queue's last sample from ``before`` or earlier, or otherwise its first one since."""
    at = (
        QueueSample.objects.filter(at__lte=before).order_by("-at").values_list("at", flat=True).first()
        or QueueSample.objects.order_by("at").values_list("at", flat=True).first()
    )
    return {} if at is None else {sample.queue: sample for sample in QueueSample.objects.filter(at=at)}


def _moment(now: datetime) -> datetime:
    """Return the last multiple of ten seconds."""
    seconds = now.timestamp()
    return datetime.fromtimestamp(seconds - seconds % INTERVAL, tz=UTC)
