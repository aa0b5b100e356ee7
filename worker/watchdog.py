"""
What is wrong with the machinery as a whole, in words: silent processes, queues that nobody consumes, lateness.

Asked by ``/health/ready/``, ``/metrics``, ``manage.py doctor`` and the health command of a worker. It reads what
processes said of themselves and what the canaries found; it asks nobody, so it answers at once.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from django.db.models.functions import Now

from worker import canaries, clock, due_times, heartbeats
from worker.models import Heartbeat, QueueSample

#: A worker with nothing in its hands that takes nothing while messages wait, for so long, does not consume.
IDLE_TOO_LONG = timedelta(seconds=20)
#: A clock that is so far from the database's, in seconds, is wrong.
MOST_SKEW = 2.0
#: What a problem can be with.
PARTS = ("relay", "workers", "queues", "schedules", "clock")


@dataclass(frozen=True)
class Problem:
    """Something that a person should look at. ``part`` is one of :data:`PARTS`."""

    part: str
    text: str


def problems() -> list[Problem]:
    """Return what is wrong now; nothing if all is well."""
    return [*of_relays(), *of_workers(), *of_queues(), *of_schedules(), *of_clock()]


def of_relays() -> list[Problem]:
    """Return what is wrong with the relays."""
    found = [Problem("relay", f"{row.process} has been silent since {_when(row)}") for row in _silent("relay")]
    relays = list(heartbeats.at_work(Heartbeat.Kind.RELAY))
    if not relays:
        found.append(Problem("relay", "no relay is at work"))
    found += [Problem("relay", f"{row.process}: {row.state}") for row in relays if row.state != heartbeats.OK]
    return found


def of_workers() -> list[Problem]:
    """Return which workers are silent, and which live and take nothing although messages wait."""
    found = [Problem("workers", f"{row.process} has been silent since {_when(row)}") for row in _silent("worker")]
    workers = list(heartbeats.at_work(Heartbeat.Kind.WORKER))
    if not workers:
        found.append(Problem("workers", "no worker is at work"))
    waiting = _waiting_queues()
    since = clock.now() - IDLE_TOO_LONG
    found += [
        Problem("workers", f"{worker.process} takes nothing since {worker.received_at:%H:%M:%S} UTC: restart it")
        for worker in workers
        if not worker.active and worker.received_at < since and waiting & set(worker.queues)
    ]
    return found


def of_queues() -> list[Problem]:
    """Return the queues from which nobody takes messages."""
    return [
        Problem("queues", f"nobody takes messages from {queue} for {seconds:.0f} s")
        for queue, seconds in sorted(canaries.unanswered().items())
    ]


def of_schedules() -> list[Problem]:
    """Return the schedules that are late by more than their policy allows."""
    return [Problem("schedules", line) for line in due_times.late_lines()]


def of_clock() -> list[Problem]:
    """Return whether this machine's clock is wrong."""
    skew = clock.skew()
    return [Problem("clock", f"it is {skew:+.1f} s from the database's")] if abs(skew) > MOST_SKEW else []


def _silent(kind: str) -> list[Heartbeat]:
    return list(heartbeats.silent(Heartbeat.Kind(kind)).order_by("process"))


def _when(row: Heartbeat) -> str:
    return f"{row.beaten_at:%H:%M:%S} UTC"


def _waiting_queues() -> set[str]:
    """Return the queues at which messages waited whenever somebody looked, as long as a worker may be idle."""
    looked: defaultdict[str, list[int | None]] = defaultdict(list)
    for queue, messages in QueueSample.objects.filter(at__gte=Now() - IDLE_TOO_LONG).values_list("queue", "messages"):
        looked[queue].append(messages)
    return {queue for queue, counts in looked.items() if len(counts) >= 2 and all(counts)}
