"""
All limits, by queue, task and key, with the number of tasks that each holds back now.

A queue's limit is set by an operator; a task's is its ``rate_limit`` or what an operator set instead; that of a key,
such as a customer or a provider, is the ``concurrency_per_key`` of the tasks that use it. Apps may keep limits by key
of their own; :func:`register` lists them here.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import QuerySet

from celery_ledger import clock
from celery_ledger.desk import rates as desk_rates
from celery_ledger.desk.searching import Count
from celery_ledger.models import DurableTask, QueueLimit, TaskRate
from celery_ledger.project import find_app
from celery_ledger.rows import places, rates

Status = DurableTask.Status
QUEUE, TASK, KEY = "queue", "task", "key"
KINDS: Final = (QUEUE, TASK, KEY)
#: How many tasks are counted for each limit; beyond that, the number is marked as a lower bound.
MOST_COUNTED = 10_000
#: Keys that are listed, those with most waiting tasks first.
MOST_KEYS = 50


@dataclass(frozen=True)
class Limit:
    """A limit, and the tasks that it holds back."""

    kind: str
    #: The queue's name, the task's, or the key.
    name: str
    #: How many tasks may begin per second; None means any number.
    per_second: float | None
    #: How many tasks may run at once; None means any number.
    concurrency: int | None
    #: The rate as it was written, such as ``10/m``.
    said: str
    #: Whether a person set it; otherwise the code or the settings did.
    by_operator: bool
    #: How many tasks count against ``concurrency``; None if they are not counted.
    under_way: int | None
    #: How many due tasks are waiting.
    held_back: Count
    #: When the last of these may begin if nothing else is enqueued; None if none waits, or if no rate decides it.
    until: datetime | None


Look = Callable[[], list[Limit]]
_looks: dict[str, Look] = {}


def register(what: str, look: Look) -> None:
    """Register ``look`` as a source of limits by the key that ``what`` names."""
    _looks[what] = look


def limits() -> list[Limit]:
    """Return all limits, by queue, task and key."""
    by_key = [limit for look in _looks.values() for limit in look()]
    return [*_of_queues(), *of_tasks(), *sorted([*_of_keys(), *by_key], key=lambda limit: limit.name)]


def _of_queues() -> list[Limit]:
    now = clock.now()
    found = []
    for limit in QueueLimit.objects.order_by("queue"):
        tasks = DurableTask.objects.filter(queue=limit.queue)
        due = tasks.filter(status=Status.PENDING, available_at__lte=now, held_since__isnull=True)
        under_way = tasks.filter(lease_until__isnull=False, status__in=[Status.PUBLISHED, Status.RUNNING])
        waiting = _count(due)
        found.append(
            Limit(
                kind=QUEUE,
                name=limit.queue,
                per_second=limit.per_second,
                concurrency=limit.concurrency,
                said="" if limit.per_second is None else f"{limit.per_second:g}/s",
                by_operator=True,
                under_way=under_way.count(),
                held_back=waiting,
                until=_until(now, waiting, limit.per_second, limit.allowance, limit.counted_at),
            )
        )
    return found


def of_tasks() -> list[Limit]:
    """Return the rates that relays currently enforce, by task name."""
    app, now = find_app(), clock.now()
    if app.conf.worker_disable_rate_limits:
        return []
    own = {
        name: task.rate_limit for name, task in app.tasks.items() if getattr(task, "durable", False) and task.rate_limit
    }
    changed = rates.changed()
    by_key = places.of_tasks(app)
    counted = {rate.name: rate for rate in TaskRate.objects.all()}
    found = []
    for name, said in sorted((own | changed).items()):
        if name in by_key:
            continue
        try:
            rate = rates.per_second(said)
        except ValueError:  # The relay logs this and applies no limit.
            continue
        if not rate:
            continue
        waiting = _count(DurableTask.objects.filter(status=Status.PENDING, held_since__isnull=False, name=name))
        kept = counted.get(name)
        allowance, counted_at = (kept.allowance, kept.counted_at) if kept else (1.0, now)
        found.append(
            Limit(
                kind=TASK,
                name=name,
                per_second=rate,
                concurrency=None,
                said=str(said),
                by_operator=name in changed,
                under_way=None,
                held_back=waiting,
                until=_until(now, waiting, rate, allowance, counted_at),
            )
        )
    return found


def _of_keys() -> list[Limit]:
    sizes = places.of_tasks(find_app())
    if not sizes:
        return []
    waiting, under_way, most = Counter[str](), Counter[str](), Counter[str]()
    for counted, rows in ((waiting, places.held(sizes)), (under_way, places.under_way(sizes))):
        for key, name, number in places.by_key(rows):
            counted[key] += number
            most[key] = max(most[key], sizes[name])
    return [
        Limit(
            kind=KEY,
            name=key,
            per_second=None,
            concurrency=most[key],
            said="",
            by_operator=False,
            under_way=under_way[key],
            held_back=Count(waiting[key]),
            until=None,
        )
        for key in sorted(most, key=lambda key: (-waiting[key], key))[:MOST_KEYS]
    ]


def _count(rows: QuerySet[DurableTask]) -> Count:
    """Return the number of rows, at a bounded cost."""
    found = rows.order_by().values("id")[: MOST_COUNTED + 1].count()
    return Count(found) if found <= MOST_COUNTED else Count(MOST_COUNTED, "at least")


def _until(
    now: datetime, waiting: Count, per_second: float | None, allowance: float, counted_at: datetime
) -> datetime | None:
    if not waiting.rows or per_second is None:
        return None
    allowed = allowance + max(0.0, (now - counted_at).total_seconds()) * per_second
    return now + timedelta(seconds=max(0.0, waiting.rows - allowed) / per_second)


@dataclass(frozen=True)
class Rate:
    """The rate of a task, in Celery's notation; None: it has none of its own."""

    task: str
    #: The rates that were set instead of the code's.
    rate: str | None
    own_rate: str | None


def limit_task(name: str, rate: str | None) -> Rate:
    """
    Set a durable task's rate in the whole cluster; None: the rate in its code, 0: no limit.

    Relays apply it within a second.

    Raises:
        LookupError: there is no such task.
        ValueError: it is not a rate.
    """
    app = find_app()
    task = app.tasks.get(name)
    if not getattr(task, "durable", False):
        raise LookupError(f"There is no durable task {name!r}.")
    own = getattr(task, "rate_limit", None)
    if rate is None:
        desk_rates.keep_own_rate(name)
    else:
        desk_rates.set_rate(app, name, rate)
    return Rate(name, rates.changed().get(name), None if own is None else str(own))
