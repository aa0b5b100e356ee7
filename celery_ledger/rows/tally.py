"""
Exact counts of task outcomes, cheap to read however many rows the ledger has.

A success, a retry or a death is counted by the statement that records its result (see
:mod:`celery_ledger.rows.results`), so the counts reflect exactly what was committed. What the relay and people do is
counted here. Counts only go up.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from django.db.models import Sum

from celery_ledger.databases import atomic, connection
from celery_ledger.models import Tally
from celery_ledger.rows.sql import statements
from celery_ledger.trips import planned

#: Processes count separately, as far as there are slots, and each moves on to the next one in time:
#: PostgreSQL keeps the old versions of a row as long as an older transaction is open, and each change walks over them.
SLOTS = 64
SLOT_LASTS = 10.0


@dataclass(frozen=True)
class Count:
    """A number of tasks with the same name and queue."""

    queue: str
    name: str
    rows: int
    messages: int = 0


def own_slot() -> int:
    """Return the slot in which this process counts now."""
    return (os.getpid() + int(time.time() / SLOT_LASTS)) % SLOTS


def add(outcome: Tally.Outcome, counts: Iterable[Count]) -> None:
    """Add to the counts of ``outcome``, one for each queue and name: in one statement on PostgreSQL."""
    given = sorted(counts, key=lambda count: (count.queue, count.name))
    if not given:
        return
    sql = statements(connection.vendor).tally
    about = {"outcome": outcome.value, "slot": own_slot()}
    if connection.vendor == "postgresql":
        columns = {
            "queues": [count.queue for count in given],
            "names": [count.name for count in given],
            "rows": [count.rows for count in given],
            "messages": [count.messages for count in given],
        }
        with planned() as cursor:
            cursor.execute(sql, {**about, **columns})
        return
    with atomic(), connection.cursor() as cursor:
        for count in given:
            cursor.execute(sql, {**about, **asdict(count)})


def totals_by_queue() -> dict[tuple[str, str], tuple[int, float]]:
    """Return the number of tasks and the sum of their lags in seconds, by queue and outcome."""
    sums = Tally.objects.values_list("queue", "outcome").annotate(Sum("rows"), Sum("seconds"))
    return {(queue, outcome): (rows, seconds) for queue, outcome, rows, seconds in sums}
