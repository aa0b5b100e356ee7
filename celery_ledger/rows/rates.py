"""
Rates of tasks, which apply to the whole cluster, and the rows that wait because of them.

A task sets its rate as in Celery, with ``rate_limit``, and ``app.control.rate_limit`` overrides it permanently. A due
row that may not begin yet is held back: it is postponed to about the time of its turn, records since when it waits, and
is published earlier if the rate allows it. So a relay that knows nothing about rates, or a rate that is lifted, leaves
no row behind.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery.utils.time import rate
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from celery_ledger.databases import connection
from celery_ledger.models import DurableTask, TaskRate
from celery_ledger.rows.ledger import Claimed

Status = DurableTask.Status
#: A row is held back for at most this many seconds at a time.
LONGEST = 86_400.0
#: It is due this many seconds after its turn, so that normally its turn comes first.
SLACK, SLACK_FACTOR = 5.0, 1.25
#: How many rows are released at a time.
PORTION = 5_000


def per_second(said: Any) -> float:
    """
    Return the tasks per second of a rate in Celery's notation: ``10``, ``"10/s"``, ``"100/m"``; 0: no limit.

    Raises:
        ValueError: it is not a rate.
    """
    try:
        number = float(rate(said))
    except (KeyError, TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(f"A rate is a number of tasks a second, or such as '10/s', '100/m' or '5/h'; not {said!r}.")
    return number


def changed() -> dict[str, str]:
    """Return the rates that were set in place of those in the tasks' code."""
    return {name: said for name, said in TaskRate.objects.values_list("name", "said") if said is not None}


def names_held() -> list[str]:
    """Return the names of tasks with held-back rows; one index probe for each name."""
    names: list[str] = []
    while (name := _held().filter(name__gt=names[-1] if names else "").order_by("name").first()) is not None:
        names.append(name.name)
    return names


def hold(name: str, ids: Collection[UUID], *, per_second: float) -> None:
    """Hold back claimed rows that may not start yet."""
    waiting = _held().filter(name=name).count() + len(ids)
    later = min(SLACK + SLACK_FACTOR * waiting / per_second, LONGEST)
    DurableTask.objects.filter(id__in=ids, status=Status.PUBLISHED).update(
        status=Status.PENDING,
        lease_until=None,
        held_since=Coalesce("held_since", "available_at"),
        available_at=Now() + timedelta(seconds=later),
    )


def note_begun(ids: Collection[UUID]) -> None:
    """Clear the mark of held-back rows that were claimed when due and may start."""
    DurableTask.objects.filter(id__in=ids, held_since__isnull=False).update(
        available_at=F("held_since"), held_since=None
    )


def claim_held(name: str, rooms: Mapping[str, int], *, most: int, lease: float) -> list[Claimed]:
    """Publish held-back rows, in the order of their priorities and due times."""
    rows = _locked(_held().filter(name=name, queue__in=[queue for queue, room in rooms.items() if room > 0]))
    left, chosen = dict(rooms), []
    for row in rows.order_by("priority", "held_since", "id").only("id", "name", "queue", "lapses")[:most]:
        if left[row.queue] > 0:
            left[row.queue] -= 1
            chosen.append(Claimed(row.id, row.name, row.queue, row.lapses))
    DurableTask.objects.filter(id__in=[row.id for row in chosen]).update(
        status=Status.PUBLISHED,
        published_at=Now(),
        lease_until=Now() + timedelta(seconds=lease),
        available_at=F("held_since"),
        held_since=None,
    )
    return chosen


def let_go(names: Collection[str]) -> int:
    """Make held-back rows of these tasks due now: the tasks have no rate any more."""
    ids = list(_locked(_held().filter(name__in=names)).order_by("id").values_list("id", flat=True)[:PORTION])
    return DurableTask.objects.filter(id__in=ids).update(available_at=F("held_since"), held_since=None)


def count_published(name: str) -> int:
    """Return how many rows of a task are at the broker or run inside a transaction."""
    return DurableTask.objects.filter(lease_until__isnull=False, status=Status.PUBLISHED, name=name).count()


def _held() -> QuerySet[DurableTask]:
    return DurableTask.objects.filter(status=Status.PENDING, held_since__isnull=False)


def _locked(rows: QuerySet[DurableTask]) -> QuerySet[DurableTask]:
    return rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
