"""
The worker's side of remote control: revoking tasks and listing what it runs.

By ``celery -A proj control revoke ID``, ``celery -A proj inspect active``, Flower, and older clients.

Imported as part of a worker, so that it replaces Celery's own commands. Those would record REVOKED, have messages
dropped whose rows the ledger would then publish again and again, and report messages instead of tasks.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from celery import bootsteps
from celery.worker import control as celerys
from celery.worker import state as worker_state
from celery.worker.control import control_command, inspect_command, nok, ok
from django.db import DatabaseError, close_old_connections
from kombu.utils.functional import maybe_list

from celery_ledger import databases
from celery_ledger.desk import control
from celery_ledger.project import find_app
from celery_ledger.work.request import sends_events_of_tasks


class CommandsStep(bootsteps.Step):
    """A part of a worker: importing this module replaces Celery's commands with those below."""


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(state: Any, task_id: str | Iterable[str], terminate: bool = False, signal: Any = None, **_: Any) -> Any:
    """Cancel waiting tasks. Every worker receives the command; only the first has something to do."""
    close_old_connections()
    try:
        rows, others = control.divide(find_app(), task_id)
        if others:
            answer = celerys.revoke(state, others, terminate, signal)
            if not rows:
                return answer
        return ok(_terminate(state, rows, signal) if terminate else control.revoke(rows))
    except (control.CannotRevokeError, ValueError) as error:
        return nok(str(error))


@control_command(variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]")
def terminate(state: Any, signal: Any, task_id: str | Iterable[str], **_: Any) -> Any:
    """Cancel tasks, including running ones: the worker that runs a task kills its process."""
    return revoke(state, task_id, terminate=True, signal=signal)


@control_command()
def ledger_terminate(state: Any, ids: Sequence[str], reason: str, signum: int, **_: Any) -> Any:
    """Kill the processes of this worker that run these tasks. The caller has cancelled the others."""
    from celery_ledger.desk import cancelling

    close_old_connections()
    rows = [UUID(id) for id in ids]
    return ok(f"{len(cancelling.terminate_here(state.consumer.pool, rows, reason=reason, signum=signum))} told to end")


@inspect_command(alias="dump_active")
def active(state: Any, safe: bool = False, **_: Any) -> Any:
    """List running rows; a row that shares its message is listed until it is committed or has failed."""
    return _by_row(state.tset(worker_state.active_requests), safe=safe)


@inspect_command(alias="dump_reserved")
def reserved(state: Any, **_: Any) -> Any:
    """List the rows that this worker has received but not started."""
    return _by_row(state.tset(worker_state.reserved_requests) - state.tset(worker_state.active_requests))


@inspect_command(variadic="ids", signature="[id1 [id2 [... [idN]]]]")
def query_task(state: Any, ids: str | Iterable[str], **_: Any) -> Any:
    """Report whether this worker runs the tasks with these ids, if it has them."""
    asked, found = set(maybe_list(ids) or ()), dict[str, Any]()
    for word, requests in (("reserved", worker_state.reserved_requests), ("active", worker_state.active_requests)):
        found |= {told["id"]: [word, told] for told in _by_row(state.tset(requests)) if told["id"] in asked}
    return found


def _by_row(requests: Iterable[Any], *, safe: bool = False) -> list[dict[str, Any]]:
    """Return Celery's description of requests once per unfinished row, with the row's id but no arguments."""
    from celery_ledger.desk.cancelling import UNENDED
    from celery_ledger.ids import call_id
    from celery_ledger.models import DurableTask
    from celery_ledger.work.request import LedgerRequest

    close_old_connections()
    told = []
    for request in requests:
        about = request.info(safe=safe)
        if not isinstance(request, LedgerRequest) or not request.ids:
            told.append(about)
            continue
        try:
            rows = (
                DurableTask.objects.using(request.database)
                .filter(id__in=request.ids, status__in=UNENDED)
                .order_by("id")
            )
            known = list(rows.values_list("id", "name", "options"))
        except DatabaseError:
            told.append(about)
            continue
        told += [
            {**about, "id": call_id(id, options), "name": name, "args": f"({id})", "kwargs": "{}"}
            for id, name, options in known
        ]
    return told


@control_command()
def ledger_revoked(state: Any, teller: str, tasks: Sequence[dict[str, Any]], **_: Any) -> Any:
    """Send events for revoked tasks, if this worker sends events and is the one addressed."""
    from celery_ledger.models import Heartbeat
    from celery_ledger.watch import heartbeats

    events = state.consumer.event_dispatcher
    if teller != heartbeats.own_name(Heartbeat.Kind.WORKER) or not sends_events_of_tasks(events):
        return ok("0 told")
    for task in tasks:
        if getattr(state.app.tasks.get(task["name"]), "send_events", True):
            events.send("task-revoked", **task)
    return ok(f"{len(tasks)} told")


@control_command(
    args=[("task_name", str), ("rate_limit", str)],
    signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
)
def rate_limit(state: Any, task_name: str, rate_limit: Any, **_: Any) -> Any:
    """Set a task's rate: in the whole cluster or, for plain Celery tasks, in this worker."""
    app = find_app()
    if not control.is_durable(app, task_name):
        return celerys.rate_limit(state, task_name, rate_limit)
    close_old_connections()
    try:
        return ok(control.set_rate(app, task_name, rate_limit))
    except (databases.AwayError, ValueError) as error:
        return nok(str(error))


@control_command(variadic="headers", signature="[key1=value1 [key2=value2 [... [keyN=valueN]]]]")
def revoke_by_stamped_headers(state: Any, headers: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
    """Revoke calls that carry one of these stamps; for plain Celery tasks, only those this worker receives."""
    from celery_ledger.desk import cancelling
    from celery_ledger.rows import stamps

    if isinstance(headers, (list, tuple)):  # From the command line.
        headers = dict(word.split("=", 1) for word in headers)
    if not control.are_all_durable(find_app()):
        celerys.revoke_by_stamped_headers(state, headers, terminate, signal)
    close_old_connections()
    try:
        said = control.revoke_stamps(headers)
        if terminate:
            found = databases.each(lambda: list(stamps.carriers(headers, cancelling.UNENDED)))
            carried = [id for _, ids in found for id in ids]
            said = _terminate(state, carried, signal)
        return ok(said)
    except (control.CannotRevokeError, databases.AwayError, ValueError) as error:
        return nok(str(error))


def _terminate(state: Any, task_id: Iterable[UUID], signal: Any) -> str:
    """
    Do the worker's own part without blocking: this runs in its event loop.

    Every worker receives the same command. A task that runs inside a transaction is cancelled by the worker that has
    it, once its process is gone.
    """
    from celery_ledger.desk import cancelling, processes
    from celery_ledger.rows import homes

    ids, signum = control.parse_ids(task_id), processes.signum_of(signal)
    told = cancelling.terminate_here(state.consumer.pool, ids, reason=control.REASON, signum=signum)
    cancelled = 0
    for alias, own in homes.find(ids).statuses.items():
        with databases.using(alias):
            cancelled += len(cancelling.end(list(own), reason=control.REASON, signum=signum))
    running = len(control.unended(ids))
    ended = len(ids) - cancelled - running
    return f"{cancelled} cancelled, {running} running, {ended} had ended, {len(told)} told to end here"
