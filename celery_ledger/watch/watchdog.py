"""
Problems of the machinery as a whole, in words: silent processes, queues without a consumer, lateness.

Queried by ``/health/ready/``, ``/metrics``, ``manage.py doctor`` and the health command of a worker. It reads the
reports of processes and the results of the canaries; it sends no requests, so it answers immediately.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import Error as DatabaseError
from django.db.models.functions import Now

from celery_ledger import clock
from celery_ledger.models import Heartbeat, QueueSample
from celery_ledger.watch import canaries, heartbeats

logger = logging.getLogger(__name__)

#: An idle worker that takes nothing for this long while messages are waiting has stopped consuming.
IDLE_TOO_LONG = timedelta(seconds=20)
#: A clock that differs from the database's by more than this, in seconds, is wrong.
MOST_SKEW = 2.0


@dataclass(frozen=True)
class Problem:
    """
    A condition that needs a person's attention. ``part`` is one of :data:`LOOKS`.

    ``stalled`` names the stalled process if restarting it would help.
    """

    part: str
    text: str
    stalled: str = ""


#: The problem if no process of a kind is running.
MISSING = {
    Heartbeat.Kind.RELAY: Problem("relay", "no relay is running"),
    Heartbeat.Kind.WORKER: Problem("workers", "no worker is running"),
}


def problems() -> list[Problem]:
    """Return the current problems; none if all is well."""
    found = []
    for part, look in LOOKS.items():
        try:
            found += look()
        except DatabaseError:
            raise
        except Exception as error:
            # A check that cannot be made must not hide the others.
            logger.exception("What is wrong with %s cannot be told.", part)
            found.append(Problem(part, f"it cannot be checked: {type(error).__name__}: {error}"))
    return found


def of_relays() -> list[Problem]:
    """Return the problems of the relays."""
    found = _of_silent("relay", Heartbeat.Kind.RELAY)
    relays = list(heartbeats.at_work(Heartbeat.Kind.RELAY))
    if not relays:
        found.append(MISSING[Heartbeat.Kind.RELAY])
    found += [Problem("relay", f"{row.process}: {row.state}") for row in relays if row.state != heartbeats.OK]
    return found


def of_workers() -> list[Problem]:
    """Return silent workers, and live workers that accept nothing although messages are waiting."""
    found = _of_silent("workers", Heartbeat.Kind.WORKER)
    workers = list(heartbeats.at_work(Heartbeat.Kind.WORKER))
    if not workers:
        found.append(MISSING[Heartbeat.Kind.WORKER])
    waiting = _waiting_queues()
    since = clock.now() - IDLE_TOO_LONG
    found += [
        Problem(
            "workers",
            f"{worker.process} has taken no messages since {worker.received_at:%H:%M:%S} UTC: restart it",
            stalled=worker.process,
        )
        for worker in workers
        if not worker.active
        and worker.wish != Heartbeat.Wish.DRAIN
        and worker.received_at < since
        and waiting & set(worker.queues)
    ]
    return found


def of_beats() -> list[Problem]:
    """Return silent beats. Not included in :func:`problems`, where late schedules already report what matters."""
    return _of_silent("beat", Heartbeat.Kind.BEAT)


def of_queues() -> list[Problem]:
    """Return the queues from which no worker takes messages."""
    return [
        Problem("queues", f"no worker has taken messages from {queue} for {seconds:.0f} s")
        for queue, seconds in sorted(canaries.unanswered().items())
    ]


def of_clock() -> list[Problem]:
    """Return a problem if this machine's clock is wrong."""
    skew = clock.skew()
    return [Problem("clock", f"it is {skew:+.1f} s from the database's")] if abs(skew) > MOST_SKEW else []


#: The parts that can have problems, and the function that checks each.
LOOKS: dict[str, Callable[[], list[Problem]]] = {
    "relay": of_relays,
    "workers": of_workers,
    "queues": of_queues,
    "clock": of_clock,
}


def register(part: str, look: Callable[[], list[Problem]]) -> None:
    """Register ``look`` as the check for problems of ``part`` of the machinery."""
    LOOKS[part] = look


def _of_silent(part: str, kind: Heartbeat.Kind) -> list[Problem]:
    return [
        Problem(part, f"{row.process} has been silent since {row.beaten_at:%H:%M:%S} UTC", stalled=row.process)
        for row in heartbeats.silent(kind).order_by("process")
    ]


def _waiting_queues() -> set[str]:
    """Return the queues that had waiting messages in all samples of the time for which a worker may be idle."""
    looked: defaultdict[str, list[int | None]] = defaultdict(list)
    for queue, messages in QueueSample.objects.filter(at__gte=Now() - IDLE_TOO_LONG).values_list("queue", "messages"):
        looked[queue].append(messages)
    return {queue for queue, counts in looked.items() if len(counts) >= 2 and all(counts)}
