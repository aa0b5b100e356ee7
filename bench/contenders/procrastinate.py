"""Procrastinate: the queue is in PostgreSQL, and tasks are deferred in the order's transaction."""

from bench.contender import MANAGE, Contender

CONTENDER = Contender(
    name="procrastinate",
    title="procrastinate",
    jobs="bench.jobs.procrastinate",
    workers=((*MANAGE, "procrastinate", "worker", "--concurrency", "1"),) * 2,
    apps=("procrastinate.contrib.django",),
    tables=("procrastinate_jobs", "procrastinate_events"),
    backlog=2,
)
