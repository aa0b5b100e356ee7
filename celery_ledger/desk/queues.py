"""Queues as operators see them: their figures, the pause switch and the limits."""

from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import UUID

from celery_ledger import clock, conf
from celery_ledger.context import current_actor
from celery_ledger.databases import atomic
from celery_ledger.desk import hastening
from celery_ledger.models import DurableTask, Pace, QueueLimit, QueueSwitch, Tally
from celery_ledger.rows import paces, tally
from celery_ledger.signals import queue_changed
from celery_ledger.watch import marks, samples
from celery_ledger.watch.samples import queue_names

MOST_PER_SECOND, MOST_AT_ONCE = 1e6, 1_000_000
SUCCEEDED = Tally.Outcome.SUCCEEDED


@dataclass(frozen=True)
class QueueState:
    """
    One queue's figures.

    ``retrying`` tasks are included in those pending; ``oldest_pending_seconds`` counts from when the oldest due task
    was due.
    """

    queue: str
    pending: int
    published: int
    running: int
    dead: int
    retrying: int
    oldest_pending_seconds: float | None
    completed_per_minute: int
    paused: bool
    per_second: float | None
    concurrency: int | None


def queue_states() -> list[QueueState]:
    """
    Return the current figures of every queue; the cost does not depend on completed tasks.

    ``completed_per_minute`` is computed from what was done since the last sample that is at least a minute old.
    """
    paused = set(QueueSwitch.objects.values_list("queue", flat=True))
    open_tasks = samples.open_tasks()
    limits = {limit.queue: limit for limit in QueueLimit.objects.all()}
    totals = tally.totals_by_queue()
    now = clock.now()
    before = samples.latest(before=now - timedelta(minutes=1))
    states = []
    for queue in queue_names():
        completed = totals.get((queue, SUCCEEDED), (0, 0.0))[0]
        minutes = 1.0
        if sample := before.get(queue):
            completed -= sample.succeeded
            minutes = max(1.0, (now - sample.at).total_seconds() / 60)
        states.append(
            QueueState(
                queue=queue,
                **asdict(open_tasks[queue]),
                completed_per_minute=max(0, round(completed / minutes)),
                paused=queue in paused,
                per_second=limits[queue].per_second if queue in limits else None,
                concurrency=limits[queue].concurrency if queue in limits else None,
            )
        )
    return states


def make_due(id: UUID) -> bool:
    """Make a task that waits in the ledger due now; False if it is not waiting there."""
    waits = DurableTask.objects.filter(id=id, status=DurableTask.Status.PENDING)
    return hastening.run_now([id]) == 1 or waits.exists()


def pause(queue: str) -> None:
    """
    Keep tasks of ``queue`` in the ledger until :func:`resume`; relays apply it within a second.

    Raises:
        ValueError: there is no such queue.
    """
    _check(queue)
    with atomic():
        _, is_new = QueueSwitch.objects.get_or_create(queue=queue)
        if is_new:
            _announce(queue, before={"paused": False}, after={"paused": True})


def resume(queue: str) -> None:
    """
    Publish tasks of ``queue`` again.

    Raises:
        ValueError: there is no such queue.
    """
    _check(queue)
    with atomic():
        deleted, _ = QueueSwitch.objects.filter(queue=queue).delete()
        if deleted:
            _announce(queue, before={"paused": True}, after={"paused": False})


def limit(queue: str, *, per_second: float | None, concurrency: int | None) -> None:
    """
    Limit the tasks of ``queue`` that start per second, and that run at once, in the whole cluster.

    None means unlimited. Relays apply the limit within a second.

    Raises:
        ValueError: there is no such queue, or a limit is not above zero; to stop a queue, pause it.
    """
    _check(queue)
    if per_second is not None and not 0 < per_second <= MOST_PER_SECOND:
        raise ValueError(f"The rate must be above 0 and at most {MOST_PER_SECOND:g} tasks a second.")
    if concurrency is not None and not 0 < concurrency <= MOST_AT_ONCE:
        raise ValueError(f"The tasks at once must be from 1 to {MOST_AT_ONCE}.")
    wanted: dict[str, object] = {"per_second": per_second, "concurrency": concurrency}
    with atomic():
        old = QueueLimit.objects.select_for_update().filter(queue=queue).first()
        before = {name: getattr(old, name, None) for name in wanted}
        if wanted == before:
            return
        if per_second is None and concurrency is None:
            QueueLimit.objects.filter(queue=queue).delete()
        else:
            QueueLimit.objects.update_or_create(queue=queue, defaults=wanted)
        _announce(queue, before=before, after=wanted)


def _announce(queue: str, *, before: dict[str, object], after: dict[str, object]) -> None:
    marks.queue(_in_words(queue, after))
    queue_changed.send_robust(sender=QueueSwitch, queue=queue, before=before, after=after, who=current_actor())


def _in_words(queue: str, after: dict[str, object]) -> str:
    if "paused" in after:
        return f"{queue} {'paused' if after['paused'] else 'resumed'}"
    said = [f"{after['per_second']:g} a second"] if after["per_second"] is not None else []
    said += [f"{after['concurrency']} at once"] if after["concurrency"] is not None else []
    return f"{queue} limited to {', '.join(said)}" if said else f"{queue} no longer limited"


def _check(queue: str) -> None:
    if queue not in queue_names():
        raise ValueError(f"There is no queue {queue!r}; there are {', '.join(queue_names())}.")


@dataclass(frozen=True)
class Ride:
    """The way in which rows of a task share messages and transactions."""

    task: str
    body_seconds: float
    #: How many rows may share a message now; 1 means none do.
    riders: int
    #: Mean over the messages that several rows shared; None if there were none yet.
    rows_a_message: float | None
    seconds_a_message: float | None
    conflicts: int


def rides() -> list[Ride]:
    """Return the known pace of each task, by name; for messages of several tasks, by the message's name."""
    known = paces.known()
    return [
        Ride(
            pace.name,
            pace.seconds,
            known.get(pace.name, paces.UNKNOWN).rows(conf.SLICE.value / 1000),
            pace.slice_rows / pace.slices if pace.slices else None,
            pace.slice_seconds / pace.slices if pace.slices else None,
            pace.conflicts,
        )
        for pace in Pace.objects.order_by("name")
    ]
