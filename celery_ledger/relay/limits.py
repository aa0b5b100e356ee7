"""
Limits of a queue that apply to the whole cluster: tasks per second, and concurrent tasks.

Any number of relays enforce them before they publish: a relay that claims rows of a limited queue keeps the
limit's row locked meanwhile. A queue without a limit costs nothing here.
"""

from collections.abc import Callable
from datetime import datetime

from celery_ledger import clock
from celery_ledger.databases import atomic
from celery_ledger.models import DurableTask, QueueLimit
from celery_ledger.rows import ledger

Status = DurableTask.Status
Take = Callable[..., list[ledger.Claimed]]
#: The burst that a rate allows after a pause, in seconds' worth of tasks; at least one task.
BURST = 0.2


def limited_queues() -> set[str]:
    """Return the queues that have a limit."""
    return set(QueueLimit.objects.values_list("queue", flat=True))


def claim(queue: str, *, room: int, lease: float, take: Take = ledger.claim) -> list[ledger.Claimed]:
    """
    Claim at most ``room`` due rows of ``queue``, as far as its limits allow now; ``take`` is :func:`ledger.claim`.

    A row counts against the rate whenever it is claimed, at every attempt, and against the concurrency limit
    from then until it has ended or is due again.
    """
    with atomic():
        limit = QueueLimit.objects.select_for_update().filter(queue=queue).first()
        if limit is None:
            return take({queue: room}, lease=lease, limit=room)
        now = clock.now()
        allowance = _allowance(limit, now)
        allowed = room if allowance is None else min(room, int(allowance))
        if limit.concurrency is not None:
            allowed = min(allowed, limit.concurrency - _in_flight(queue))
        rows = take({queue: allowed}, lease=lease, limit=room) if allowed > 0 else []
        if rows and allowance is not None:
            limit.allowance, limit.counted_at = allowance - len(rows), now
            limit.save(update_fields=["allowance", "counted_at"])
    return rows


def _allowance(limit: QueueLimit, now: datetime) -> float | None:
    """Return how many tasks the rate allows now; None: any number."""
    if limit.per_second is None:
        return None
    passed = max(0.0, (now - limit.counted_at).total_seconds())
    return min(max(1.0, limit.per_second * BURST), limit.allowance + passed * limit.per_second)


def _in_flight(queue: str) -> int:
    """Return how many tasks of ``queue`` are at the broker or with workers."""
    return DurableTask.objects.filter(
        lease_until__isnull=False, status__in=[Status.PUBLISHED, Status.RUNNING], queue=queue
    ).count()
