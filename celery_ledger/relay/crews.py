"""
Queues that the same workers serve: their rows may share a message, since the worker that takes it serves all of them.

A worker reports its queues with each heartbeat, so what is known here is a few seconds old. If a worker leaves a queue
in that time, it still runs the rows that came with another queue's message.
"""

from collections import defaultdict

from celery_ledger.models import Heartbeat
from celery_ledger.watch import heartbeats


def known() -> dict[str, str]:
    """Return, for each queue that a worker serves, the first of the queues that exactly the same workers serve."""
    workers: dict[str, set[str]] = defaultdict(set)
    for worker, queues in heartbeats.at_work(Heartbeat.Kind.WORKER).values_list("process", "queues"):
        for queue in queues:
            workers[queue].add(worker)
    firsts: dict[frozenset[str], str] = {}
    return {queue: firsts.setdefault(frozenset(workers[queue]), queue) for queue in sorted(workers)}
