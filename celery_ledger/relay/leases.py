"""
Leases of rows whose messages still wait at the broker: while they wait there, nothing is wrong.

A queue of slow tasks keeps messages waiting for longer than a lease. The relay, which asks the broker how many
messages wait in each queue, renews as many rows: a queue is FIFO, so the rows published last are the waiting ones.
"""

from datetime import datetime, timedelta
from uuid import UUID

from celery import Celery
from django.db.models.functions import Now

from celery_ledger.databases import atomic, connection
from celery_ledger.models import DurableTask
from celery_ledger.relay.bundle import Paces, size_of
from celery_ledger.rows import ledger

#: A lease is renewed when less than this fraction of it is left: the rest is for a worker that takes the message.
RENEWED_BELOW = 2 / 3
#: At most this many rows are renewed at a time.
MOST_RENEWED = 10_000


def renew_waiting(
    app: Celery, queue: str, messages: int, *, lease: float, paces: Paces, since: datetime | None = None
) -> int:
    """
    Renew the leases of the rows that ``messages`` waiting messages of ``queue`` carry; return how many were.

    ``since``: no lease that matters ends earlier.
    """
    published = ledger.leased(since).filter(status=DurableTask.Status.PUBLISHED, queue=queue)
    ending = published.filter(lease_until__lt=Now() + timedelta(seconds=lease * RENEWED_BELOW))
    if messages < 1 or not ending.exists():
        return 0
    waiting: list[UUID] = []
    left = float(messages)
    latest = published.order_by("-published_at", "-id").values_list("id", "name", "lapses")
    for id, name, lapses in latest[:MOST_RENEWED]:
        if left < 1e-6:  # Fractions of a message do not add up exactly to a whole one.
            break
        waiting.append(id)
        left -= 1 / size_of(app, name, lapses, paces)
    with atomic():
        mine = ending.filter(id__in=waiting).order_by("id")
        free = mine.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
        ids = list(free.values_list("id", flat=True))
        return DurableTask.objects.filter(id__in=ids, status=DurableTask.Status.PUBLISHED).update(
            lease_until=Now() + timedelta(seconds=lease)
        )
