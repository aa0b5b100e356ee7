"""Running processes: each worker, relay and beat, what it is doing, and an operator's instruction to it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models.functions import Now

from celery_ledger.context import current_actor
from celery_ledger.databases import atomic
from celery_ledger.models import Heartbeat
from celery_ledger.signals import process_told
from celery_ledger.watch import heartbeats, watchdog

Wish = Heartbeat.Wish
SILENT = "silent"
#: What a person may tell a process to do, and the state that is then wanted.
WISHES = {"drain": Wish.DRAIN, "resume": "", "stop": Wish.STOP}


class NotToldError(ValueError):
    """The process is gone, or cannot follow the instruction, so none was given."""


@dataclass(frozen=True)
class Process:
    """One process, according to its last heartbeat."""

    process: str
    kind: str
    machine: str
    #: ``ok``, what is wrong with it, ``draining``, ``drained`` or ``silent``.
    state: str
    #: What is wrong with it, in words; empty if nothing is.
    problem: str
    wish: str
    started_at: datetime
    beaten_at: datetime
    silent_seconds: float
    queues: list[str]
    active: int
    received: int
    release: str
    memory: int | None
    doing: list[dict[str, Any]]


def processes() -> list[Process]:
    """Return every process that has not stopped, workers first; silent ones are dropped after ten minutes."""
    looks = (watchdog.of_workers, watchdog.of_relays, watchdog.of_beats)
    wrong = {problem.stalled: problem.text for look in looks for problem in look() if problem.stalled}
    rows = Heartbeat.objects.annotate(now=Now()).order_by("process")
    found = [_process(row, (row.now - row.beaten_at).total_seconds(), wrong.get(row.process, "")) for row in rows]
    kinds = [Heartbeat.Kind.WORKER, Heartbeat.Kind.RELAY, Heartbeat.Kind.BEAT]
    return sorted(found, key=lambda each: kinds.index(Heartbeat.Kind(each.kind)))


def _process(row: Heartbeat, silent: float, problem: str) -> Process:
    is_silent = silent > heartbeats.SILENT_AFTER.total_seconds()
    return Process(
        process=row.process,
        kind=row.kind,
        machine=row.process.partition(" at ")[2],
        state=SILENT if is_silent else row.state,
        problem=problem,
        wish=row.wish,
        started_at=row.started_at,
        beaten_at=row.beaten_at,
        silent_seconds=round(max(0.0, silent), 1),
        queues=row.queues,
        active=row.active,
        received=row.received,
        release=row.release,
        memory=row.memory,
        doing=row.doing or [],
    )


def tell(process: str, what: str) -> Process:
    """
    Drain a worker, resume it, or stop a process; it follows at its next heartbeat, within seconds.

    ``what`` is one of :data:`WISHES`. A drained worker takes no more messages, finishes those that it has, and stays. A
    stopped one exits after finishing what it has; its supervisor may start it again.

    Raises:
        LookupError: there is no such process.
        NotToldError: the process is silent, or only workers can do that.
    """
    wish = WISHES[what]
    with atomic():
        row = Heartbeat.objects.select_for_update().filter(process=process).first()
        if row is None:
            raise LookupError(f"There is no process {process!r}: it has stopped or never existed.")
        if row.kind != Heartbeat.Kind.WORKER and wish != Wish.STOP:
            raise NotToldError(f"A {row.kind} cannot be drained. Stop it instead.")
        _refuse_silent(process)
        if row.wish != wish:
            Heartbeat.objects.filter(process=process).update(wish=wish)
            process_told.send_robust(
                sender=Heartbeat, process=process, before=row.wish, after=str(wish), who=current_actor()
            )
    return next(each for each in processes() if each.process == process)


def _refuse_silent(process: str) -> None:
    [told] = [each for each in processes() if each.process == process]
    # A worker whose loop hangs does not report itself, but it still reads what is wanted of it.
    if told.state == SILENT and told.kind != Heartbeat.Kind.WORKER:
        raise NotToldError(f"{process} is silent and would not receive it. Stop it on {told.machine}.")
