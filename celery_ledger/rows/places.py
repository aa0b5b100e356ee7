"""
Limits by key: how many tasks of one customer, provider or other key may run at once.

A task sets the number with ``concurrency_per_key``; its row keeps the key among its options. A row whose key has no
free place is held back in the same way as by a rate: it is postponed for long, records since when it waits, and a relay
takes it as soon as a place is free. Tasks with the same key share its places.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Count, F, Func, QuerySet, TextField, Window
from django.db.models.functions import Coalesce, Now, RowNumber

from celery_ledger.databases import connection
from celery_ledger.models import DurableTask
from celery_ledger.rows.ledger import Claimed
from celery_ledger.rows.sql import PLACES_LOCK

Status = DurableTask.Status
#: Where a row's options hold its key.
OPTION: Final = "limit_key"
#: When a row that is held back is due again, if no relay takes it earlier.
LATER: Final = timedelta(hours=1)
#: How many rows are released at a time.
PORTION = 5_000


class Key(Func):
    """A row's key, or NULL; SQLite cannot count or number rows by Django's own JSON transforms."""

    template = f"(%(expressions)s ->> '{OPTION}')"
    output_field = TextField()

    def __init__(self) -> None:
        super().__init__("options")

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template=f"JSON_EXTRACT(%(expressions)s, '$.{OPTION}')", **context)


def of_tasks(app: Any) -> dict[str, int]:
    """Return, for each limited task, how many calls with the same key may run at once."""
    return {
        name: task.concurrency_per_key
        for name, task in app.tasks.items()
        if getattr(task, "durable", False) and task.concurrency_per_key is not None
    }


def with_key(ids: Collection[UUID]) -> set[UUID]:
    """Return those of these rows that have a key."""
    keyed = DurableTask.objects.filter(id__in=ids, options__has_key=OPTION)
    return set(keyed.values_list("id", flat=True))


def hold(ids: Collection[UUID]) -> None:
    """Hold back claimed rows until their keys have free places."""
    DurableTask.objects.filter(id__in=ids, status=Status.PUBLISHED).update(
        status=Status.PENDING,
        lease_until=None,
        held_since=Coalesce("held_since", "available_at"),
        available_at=Now() + LATER,
    )


def claim_held(places: Mapping[str, int], rooms: Mapping[str, int], *, most: int, lease: float) -> list[Claimed]:
    """
    Publish held-back rows as far as their keys have free places; in a transaction.

    Rows of a key go by priority, then by time. Nothing is taken while another relay does this.
    """
    if not _is_alone():
        return []
    taken: Counter[str] = Counter()
    for key, _, rows in by_key(under_way(places)):
        taken[key] += rows
    full = [key for key, rows in taken.items() if rows >= max(places.values())]
    place = Window(RowNumber(), partition_by="key", order_by=["priority", "held_since", "id"])
    first = (
        held(places)
        .filter(queue__in=[queue for queue, room in rooms.items() if room > 0])
        .annotate(key=Key())
        .exclude(key__in=full)
        .annotate(place=place)
        .filter(place__lte=max(places.values()))
        .order_by("priority", "held_since", "id")
        .values_list("id", "name", "queue", "lapses", "key")[:most]
    )
    left, chosen = dict(rooms), {}
    for id, name, queue, lapses, key in first:
        if left[queue] > 0 and taken[key] < places[name]:
            left[queue] -= 1
            taken[key] += 1
            chosen[id] = Claimed(id, name, queue, lapses)
    free = set(_locked(held(places).filter(id__in=chosen)).values_list("id", flat=True))
    DurableTask.objects.filter(id__in=free).update(
        status=Status.PUBLISHED,
        published_at=Now(),
        lease_until=Now() + timedelta(seconds=lease),
        available_at=F("held_since"),
        held_since=None,
    )
    return [row for id, row in chosen.items() if id in free]


def under_way(names: Collection[str]) -> QuerySet[DurableTask]:
    """Return the rows of these tasks that are at the broker or with workers."""
    return DurableTask.objects.filter(
        lease_until__isnull=False, status__in=[Status.PUBLISHED, Status.RUNNING], name__in=names
    )


def held(names: Collection[str]) -> QuerySet[DurableTask]:
    """Return the rows of these tasks that are held back."""
    return DurableTask.objects.filter(status=Status.PENDING, held_since__isnull=False, name__in=names)


def by_key(rows: QuerySet[DurableTask]) -> Iterator[tuple[str, str, int]]:
    """Count rows by key and task name."""
    keyed = rows.order_by().annotate(key=Key()).filter(key__isnull=False)
    return keyed.values_list("key", "name").annotate(rows=Count("id")).iterator()


def _is_alone() -> bool:
    """Whether this is the only relay that counts places until the transaction ends; always so on SQLite."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [PLACES_LOCK])
        return bool(cursor.fetchone()[0])


def _locked(rows: QuerySet[DurableTask]) -> QuerySet[DurableTask]:
    return rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
