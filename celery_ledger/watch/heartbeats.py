"""The running processes of the machinery: each reports every few seconds, by the database's clock."""

import os
import socket
import time
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from celery_ledger import clock, conf
from celery_ledger.models import Heartbeat
from celery_ledger.watch import marks

OK = "ok"
BROKER_AWAY = "broker away"
#: A worker that takes no more messages at an operator's request: one that still holds some, and one that holds none.
DRAINING, DRAINED = "draining", "drained"
#: Longest state that a process may report, in characters.
LONGEST_STATE = 64
#: A process that has been silent for this long is not running.
SILENT_AFTER = timedelta(seconds=15)
#: A process that has been silent for this long is forgotten.
FORGOTTEN_AFTER = timedelta(minutes=10)


def own_name(kind: Heartbeat.Kind) -> str:
    """Return the name of this process."""
    return f"{kind} {os.getpid()} at {socket.gethostname()}"


def begin(kind: Heartbeat.Kind) -> None:
    """Delete the reports of, and requests to, an earlier process of the same name: containers reuse process ids."""
    end(kind)


def beat(kind: Heartbeat.Kind, state: str = OK, **figures: Any) -> str:
    """
    Report that this process is running, and its state; forget processes that are gone. Return an operator's wish.

    ``figures`` are ``queues``, which it serves; ``memory``; and a worker's ``active``, ``received`` and ``doing``.
    """
    mine = Heartbeat.objects.filter(process=own_name(kind))
    if "received" in figures:
        mine.exclude(received=figures["received"]).update(received_at=Now())
    if not mine.update(state=state, beaten_at=Now(), **figures):
        release = conf.release()
        new = Heartbeat(process=own_name(kind), kind=kind, state=state, release=release, wish="", **figures)
        Heartbeat.objects.bulk_create([new], ignore_conflicts=True)
        marks.release(release)
        Heartbeat.objects.filter(beaten_at__lt=Now() - FORGOTTEN_AFTER).delete()
        killed = [row.process for row in of_this_machine(kind) if not _runs(row)]
        Heartbeat.objects.filter(process__in=killed).delete()
        return ""
    return mine.values_list("wish", flat=True).first() or ""


def memory_of(pids: Collection[int]) -> int | None:
    """Return the bytes of memory that processes of this machine use; shared memory is counted once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # The process has ended, or the system does not provide this: it is not Linux.
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total or None


def _runs(row: Heartbeat) -> bool:
    """Whether the process that sent this is running: its id exists, and that process is not younger than the report."""
    pid = int(row.process.split()[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # A restarted container reuses process ids.
    age = _age(pid)
    return age is None or age >= (clock.now() - row.beaten_at).total_seconds()


def _age(pid: int) -> float | None:
    """Return for how many seconds a process has run, or None if the system does not provide this: it is not Linux."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # proc(5): field 22, in ticks
    except OSError:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")


def end(kind: Heartbeat.Kind) -> None:
    """Report that this process stops as intended."""
    Heartbeat.objects.filter(process=own_name(kind)).delete()


def at_work(kind: Heartbeat.Kind) -> QuerySet[Heartbeat]:
    """Return the processes of a kind that have reported recently."""
    return Heartbeat.objects.filter(kind=kind, beaten_at__gte=Now() - SILENT_AFTER)


def silent(kind: Heartbeat.Kind) -> QuerySet[Heartbeat]:
    """Return the processes of a kind that have not reported recently and did not report that they stop."""
    return Heartbeat.objects.filter(kind=kind, beaten_at__lt=Now() - SILENT_AFTER)


def of_this_machine(kind: Heartbeat.Kind) -> QuerySet[Heartbeat]:
    """Return the processes of a kind on this machine that did not report that they stop."""
    return Heartbeat.objects.filter(kind=kind, process__endswith=f" at {socket.gethostname()}")
