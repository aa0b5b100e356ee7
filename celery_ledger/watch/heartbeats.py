"""Which processes of the machinery are at work: each says so every few seconds, by the database's clock."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from celery_ledger import clock
from celery_ledger.models import Heartbeat

OK = "ok"
BROKER_AWAY = "broker away"
#: Characters that a process may say of itself.
LONGEST_STATE = 64
#: A process that has been silent for this long is not at work.
SILENT_AFTER = timedelta(seconds=15)
#: A process that has been silent for this long is forgotten.
FORGOTTEN_AFTER = timedelta(minutes=10)


def own_name(kind: Heartbeat.Kind) -> str:
    """Return what this process is called."""
    return f"{kind} {os.getpid()} at {socket.gethostname()}"


def beat(kind: Heartbeat.Kind, state: str = OK, **figures: Any) -> None:
    """
    Say that this process is at work, and how; forget those that are gone.

    ``figures`` are ``queues``, those that it serves, and a worker's ``active`` and ``received``.
    """
    mine = Heartbeat.objects.filter(process=own_name(kind))
    if "received" in figures:
        mine.exclude(received=figures["received"]).update(received_at=Now())
    if not mine.update(state=state, beaten_at=Now(), **figures):
        new = Heartbeat(process=own_name(kind), kind=kind, state=state, **figures)
        Heartbeat.objects.bulk_create([new], ignore_conflicts=True)
        Heartbeat.objects.filter(beaten_at__lt=Now() - FORGOTTEN_AFTER).delete()
        killed = [row.process for row in of_this_machine(kind) if not _runs(row)]
        Heartbeat.objects.filter(process__in=killed).delete()


def _runs(row: Heartbeat) -> bool:
    """Whether the process that said this runs: one of its id exists, and is not younger than its last message."""
    pid = int(row.process.split()[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # In a container that was started again, ids come again.
    age = _age(pid)
    return age is None or age >= (clock.now() - row.beaten_at).total_seconds()


def _age(pid: int) -> float | None:
    """Return for how many seconds a process has run, or None where the system does not say: it is not Linux."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # proc(5): field 22, in ticks
    except OSError:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")


def end(kind: Heartbeat.Kind) -> None:
    """Say that this process stops as intended."""
    Heartbeat.objects.filter(process=own_name(kind)).delete()


def at_work(kind: Heartbeat.Kind) -> QuerySet[Heartbeat]:
    """Return the processes of a kind that were heard of lately."""
    return Heartbeat.objects.filter(kind=kind, beaten_at__gte=Now() - SILENT_AFTER)


def silent(kind: Heartbeat.Kind) -> QuerySet[Heartbeat]:
    """Return the processes of a kind that did not say that they stop, and were not heard of lately."""
    return Heartbeat.objects.filter(kind=kind, beaten_at__lt=Now() - SILENT_AFTER)


def of_this_machine(kind: Heartbeat.Kind) -> QuerySet[Heartbeat]:
    """Return the processes of a kind on this machine that did not say that they stop."""
    return Heartbeat.objects.filter(kind=kind, process__endswith=f" at {socket.gethostname()}")
