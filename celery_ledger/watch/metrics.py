"""
Metrics for Prometheus: the ledger, the queues, the relays and workers, the database. Needs ``prometheus_client``.

Task metrics are read from the ledger's own counts (:mod:`celery_ledger.rows.tally`) and partial indexes, so that
every web process on every machine reports the same values, and completed tasks cost nothing.
"""

import logging
from collections import Counter as TallyOf
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from django.db import DatabaseError, InterfaceError
from django.db.models import Count, Sum
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from celery_ledger import clock, conf, databases
from celery_ledger.databases import connection
from celery_ledger.models import Heartbeat, Pace, QueueSample, QueueSwitch, Tally
from celery_ledger.rows import paces
from celery_ledger.rows.sql import LAG_BOUNDS
from celery_ledger.watch import heartbeats, samples, watchdog

__all__ = ["LedgerCollector"]

logger = logging.getLogger(__name__)

Outcome = Tally.Outcome
#: A sum of the tally: queue, task, outcome, bucket, rows, messages, seconds.
Sums = list[tuple[str, str, str, int, int, int, float]]
#: A sample older than this, in seconds, says nothing about the present.
STALE: Final = 60


class LedgerCollector(Collector):
    """Queries the database at each scrape: ``prometheus_client.REGISTRY.register(LedgerCollector())``."""

    def collect(self) -> Iterator[Metric]:
        if not databases.are_several():
            yield from _of_one()
            return
        families: dict[str, Metric] = {}
        for alias, own in databases.each(lambda: list(_of_one())):
            for family in own:
                for sample in family.samples:
                    sample.labels["database"] = alias
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples += family.samples
        yield from families.values()


def _of_one() -> Iterator[Metric]:
    """Yield the metrics of the database in use, and whether it answers."""
    up = GaugeMetricFamily("celery_ledger_database_up", "1: the database answers.")
    try:
        yield from list(ledger())
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The database does not answer: %s", error)
        up.add_metric([], 0)
    else:
        up.add_metric([], 1)
    yield up


def ledger() -> Iterator[Metric]:
    """Yield all metrics that come from the database."""
    tally = Tally.objects.values_list("queue", "name", "outcome", "bucket").annotate(
        Sum("rows"), Sum("messages"), Sum("seconds")
    )
    counts = list(tally)
    yield from tasks_ever(counts)
    yield from tasks_now(counts)
    yield lags(counts)
    yield from rides()
    yield from broker_and_relays()
    yield from database()


def tasks_ever(counts: Sums) -> Iterator[Metric]:
    """Yield how many tasks had which outcome, and in how many messages they travelled."""
    outcomes = CounterMetricFamily(
        "celery_ledger_tasks",
        "Tasks that were published, succeeded, were retried, died, were rescued, replayed, discarded or cancelled.",
        labels=["queue", "task", "outcome"],
    )
    sums: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for queue, name, outcome, _, rows, _, _ in counts:
        sums[queue, name, outcome] += rows
    for key, rows in sorted(sums.items()):
        outcomes.add_metric(key, rows)
    yield outcomes
    sizes = SummaryMetricFamily("celery_ledger_message_tasks", "Tasks a message that was published.", labels=["queue"])
    for queue in samples.queue_names():
        published = [row for row in counts if row[0] == queue and row[2] == Outcome.PUBLISHED]
        sizes.add_metric([queue], sum(row[5] for row in published), sum(row[4] for row in published))
    yield sizes


def tasks_now(counts: Sums) -> Iterator[Metric]:
    """Yield how many tasks are in which status, and from that how many were ever enqueued."""
    enqueued: defaultdict[tuple[str, str], int] = defaultdict(int)
    for queue, name, outcome, _, rows, _, _ in counts:
        if outcome in {Outcome.SUCCEEDED, Outcome.DISCARDED, Outcome.CANCELLED}:
            enqueued[queue, name] += rows
    now = GaugeMetricFamily("celery_ledger_tasks_now", "Tasks that are not done.", labels=["queue", "task", "status"])
    for queue, name, status, rows in samples.open_by_task():
        now.add_metric([queue, name, status], rows)
        enqueued[queue, name] += rows
    yield now
    retrying = GaugeMetricFamily(
        "celery_ledger_tasks_retrying", "Tasks that failed and wait to be tried again.", labels=["queue", "task"]
    )
    for queue, name, rows in samples.retrying_by_task():
        retrying.add_metric([queue, name], rows)
    yield retrying
    ever = CounterMetricFamily("celery_ledger_tasks_enqueued", "Tasks that were enqueued.", labels=["queue", "task"])
    for key, rows in sorted(enqueued.items()):
        ever.add_metric(key, rows)
    yield ever
    oldest = GaugeMetricFamily(
        "celery_ledger_oldest_due_seconds",
        "For how long the longest due task has been due; 0: none is.",
        labels=["queue"],
    )
    due = samples.oldest_due()
    paused = GaugeMetricFamily("celery_ledger_queue_paused", "1: an operator has paused the queue.", labels=["queue"])
    switched_off = set(QueueSwitch.objects.values_list("queue", flat=True))
    for queue in samples.queue_names():
        oldest.add_metric([queue], due.get(queue, 0.0))
        paused.add_metric([queue], queue in switched_off)
    yield oldest
    yield paused


def lags(counts: Sums) -> Metric:
    """Return the histogram of the times from due to done."""
    family = HistogramMetricFamily(
        "celery_ledger_task_lag_seconds",
        "Time from when a task was due until its effect was there.",
        labels=["queue", "task"],
    )
    buckets: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * (len(LAG_BOUNDS) + 1))
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    for queue, name, outcome, bucket, rows, _, seconds in counts:
        if outcome == Outcome.SUCCEEDED:
            buckets[queue, name][bucket] += rows
            sums[queue, name] += seconds
    bounds = [*map(str, LAG_BOUNDS), "+Inf"]
    for key, rows_of in sorted(buckets.items()):
        upto = [sum(rows_of[: place + 1]) for place in range(len(rows_of))]
        family.add_metric(key, list(zip(bounds, upto, strict=True)), sums[key])
    return family


def rides() -> Iterator[Metric]:
    """Yield how single-item tasks share messages and transactions; see :mod:`celery_ledger.rows.paces`."""
    bodies = GaugeMetricFamily("celery_ledger_body_seconds", "Average run time of the latest bodies.", labels=["task"])
    riders = GaugeMetricFamily("celery_ledger_riders", "Tasks that may share a message now; 1: none.", labels=["task"])
    conflicts = CounterMetricFamily(
        "celery_ledger_ride_conflicts",
        "Transactions of several tasks that ended early because of a lock held elsewhere.",
        labels=["task"],
    )
    rows = CounterMetricFamily(
        "celery_ledger_slice_tasks", "Tasks that shared a message, by the message's task.", labels=["task"]
    )
    seconds = SummaryMetricFamily(
        "celery_ledger_slice_seconds", "Time that those took together, by the message's task.", labels=["task"]
    )
    known = paces.known()
    slice_seconds = conf.SLICE.value / 1000
    for pace in Pace.objects.order_by("name"):
        if pace.bodies:
            bodies.add_metric([pace.name], pace.seconds)
            riders.add_metric([pace.name], known[pace.name].rows(slice_seconds) if pace.name in known else 1)
        conflicts.add_metric([pace.name], pace.conflicts)
        if pace.slices:
            rows.add_metric([pace.name], pace.slice_rows)
            seconds.add_metric([pace.name], pace.slices, pace.slice_seconds)
    yield from (bodies, riders, conflicts, rows, seconds)


def broker_and_relays() -> Iterator[Metric]:
    """Yield the messages waiting at the broker, as a relay last saw them, and the running processes."""
    messages = GaugeMetricFamily(
        "celery_ledger_broker_messages", "Messages that wait at the broker, as a relay last saw it.", labels=["queue"]
    )
    age = GaugeMetricFamily("celery_ledger_sample_age_seconds", "For how long no relay has taken the queues' figures.")
    newest = QueueSample.objects.order_by("-at").values_list("at", flat=True).first()
    if newest is not None:
        seconds = max(0.0, (clock.now() - newest).total_seconds())
        age.add_metric([], seconds)
        if seconds < STALE:
            for queue, waiting in QueueSample.objects.filter(at=newest).values_list("queue", "messages"):
                if waiting is not None:
                    messages.add_metric([queue], waiting)
    yield messages
    yield age
    processes = GaugeMetricFamily("celery_ledger_processes", "Running processes.", labels=["kind", "state"])
    for kind in Heartbeat.Kind:
        states = heartbeats.at_work(kind).values_list("state").annotate(Count("process"))
        for state, count in dict(states).items() or {heartbeats.OK: 0}.items():
            processes.add_metric([kind, state], count)
    yield processes
    wrong = GaugeMetricFamily("celery_ledger_problems", "What the watchdog finds wrong.", labels=["part"])
    found = TallyOf(problem.part for problem in watchdog.problems())
    for part in watchdog.LOOKS:
        wrong.add_metric([part], found[part])
    yield wrong


def database() -> Iterator[Metric]:
    """Yield how many connections the database has and how many it allows; there are no such figures for SQLite."""
    used = GaugeMetricFamily("celery_ledger_database_connections", "Connections to the database.", labels=["state"])
    most = GaugeMetricFamily("celery_ledger_database_connections_max", "Connections that the server allows.")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT coalesce(state, 'unknown'), count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND backend_type = 'client backend' GROUP BY 1"
            )
            for state, count in cursor.fetchall():
                used.add_metric([state], count)
            cursor.execute("SHOW max_connections")
            most.add_metric([], int(cursor.fetchone()[0]))
    yield used
    yield most
