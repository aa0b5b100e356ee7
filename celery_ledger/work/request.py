"""
How the worker's parent process handles a message that a child runs: it reports the rows and counts lost children.

When a child dies while it holds a message, Celery would mark the task failed and lose it, or requeue it forever.
Here the ledger counts the attempt and brings the rows back at once; the message itself is acknowledged. If the child
was killed to end one of the rows, that row is cancelled, and the others come back as they were.
"""

import json
import logging
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from time import monotonic
from typing import Any
from uuid import UUID

from billiard.exceptions import Terminated, WorkerLostError
from celery import states
from celery.platforms import signals
from celery.worker import request
from celery.worker.state import task_ready
from django.db import DatabaseError

from celery_ledger import databases
from celery_ledger.databases import connection
from celery_ledger.rows import ledger
from celery_ledger.work import consumer

logger = logging.getLogger(__name__)

#: The names of the events that report a row's attempt, by its outcome.
EVENTS = {states.SUCCESS: "task-succeeded", states.RETRY: "task-retried", states.FAILURE: "task-failed"}
#: Events that Celery would send for a message, and that are sent for its rows instead.
SAID_OF_ROWS = frozenset(EVENTS.values())


def sends_events_of_tasks(dispatcher: Any) -> bool:
    """Whether a worker's dispatcher sends events of tasks; without ``-E`` it is enabled too, for those of workers."""
    return bool(dispatcher and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups))


def _in_its_database(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def within(self: "LedgerRequest", *args: Any, **options: Any) -> Any:
        with databases.using(self.database):
            return method(self, *args, **options)

    return within


class LedgerRequest(request.Request):
    """A message being run by a pool process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received = monotonic()
        self._killed: list[UUID] = []
        self._when_killed: Callable[[Sequence[UUID]], object] | None = None
        self.request_dict["has_listeners"] = self.has_listeners

    @property
    def ids(self) -> list[str]:
        """The rows that the message names."""
        return list(self.args[0])

    @property
    def database(self) -> str:
        """The database that has the rows."""
        return self.request_dict.get(databases.HEADER) or databases.aliases()[0]

    def kill(self, pool: Any, ids: Sequence[UUID], *, signum: int, then: Callable[[Sequence[UUID]], object]) -> bool:
        """
        Kill the process that runs this message to end its rows ``ids``; False if the pool has no process to kill.

        When the process is gone, ``then`` is called with the ids, and the other rows of the message come back.
        """
        self._killed += [id for id in ids if id not in self._killed]
        self._when_killed = then
        try:
            self.terminate(pool, signum)
        except NotImplementedError:
            logger.warning("A message of %s goes on: %s runs no processes.", self.name, type(pool).__name__)
            return False
        return True

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Send the process a signal, now or when it starts; the outcome of the rows is reported when it is gone."""
        if self.time_start:
            pool.terminate_job(self.worker_pid, signals.signum(signal or "TERM"))
        else:
            self._terminate_on_ack = pool, signal

    @property
    def has_listeners(self) -> bool:
        """Whether this worker sends events of tasks: ``-E``, or remote control, says so."""
        return bool(self.task.send_events) and sends_events_of_tasks(self.eventer)

    def send_event(self, type: str, **fields: Any) -> None:
        """
        Send an event of this message. The outcome is reported for each row, under the row's own id.

        A message of one row bears the row's id, so its events are the row's; those of several rows belong to none.
        """
        if not self.has_listeners:
            return
        if type == "task-succeeded":
            self._tell(json.loads(fields["result"]))
        elif type not in SAID_OF_ROWS and self._is_one_row:
            super().send_event(type, **fields)

    @_in_its_database
    def asked_limits(self) -> tuple[float, float]:
        """
        Return the longest limits, hard and soft, that calls of these rows requested for themselves; 0: none did.

        They are read from the ledger when a limit is reached: a message is not trusted.
        """
        try:
            return ledger.longest_limits([UUID(id) for id in self.ids])
        except DatabaseError:
            logger.exception("Whether rows of %s asked for a longer time limit cannot be read.", self.name)
            return 0.0, 0.0
        finally:
            connection.close()  # No connection may be open when the pool forks again.

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """
        Count the attempt if the hard time limit killed the process; the soft one is an error in the body.

        Celery's handling of the hard limit records a result for the message, and from 5.7 on notifies hooks and
        receivers of its failure. They must learn the row's outcome instead, as recorded in the ledger.
        """
        if soft:
            super().on_timeout(soft, timeout)
            return
        task_ready(self)
        self.acknowledge()
        logger.error("A message of %s ran longer than its hard time limit of %s s.", self.name, timeout)
        # Celery kills the process after this. Until then its transaction holds the row, and this process would wait.
        with suppress(ProcessLookupError):
            os.kill(self.worker_pid, signal.SIGKILL)
        self._count_lost(f"It ran longer than the time limit of {timeout} s.")

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Count a process that died with the message, and report its row instead of the message."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)  # It may be wrapped together with its traceback.
        if isinstance(error, Terminated) and not self._already_cancelled:
            self._on_killed()
            return None
        if not isinstance(error, WorkerLostError):
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        task_ready(self)
        self.acknowledge()
        logger.error("A process was lost with a message of %s: %s", self.name, error)
        self._count_lost(str(error))
        return None

    def revoked(self) -> bool:
        """Whether to drop the message: never, since the ledger records cancellation, and cancelled rows are skipped."""
        return False

    def _announce_cancelled(self, emit_retry: bool = True) -> None:
        """Announce a cancelled message without Celery's own result: the ledger determines a task's result."""
        super()._announce_cancelled(emit_retry=False)

    @_in_its_database
    def _on_killed(self) -> None:
        """End the rows for which the process was terminated, and give the other rows back."""
        task_ready(self)
        self.acknowledge()
        logger.warning("A process was told to end with a message of %s.", self.name)
        try:
            if self._when_killed is not None:
                self._when_killed(self._killed)
            outcomes = consumer.give_back(self.task, self.ids, held_for=monotonic() - self.received)
            self._tell(outcomes.events())
        except Exception:
            logger.exception("What a killed process held comes back when its lease ends.")

    @_in_its_database
    def _count_lost(self, reason: str) -> None:
        try:
            outcomes = consumer.count_lost(self.task, self.ids, reason, held_for=monotonic() - self.received)
            self._tell(outcomes.events())
        except Exception:
            # The lease brings the rows back all the same; a failure here must not stop the worker.
            logger.exception("A lost process could not be recorded; its tasks come back when their lease ends.")

    @property
    def _is_one_row(self) -> bool:
        return self.ids == [self.id]

    def _tell(self, rows: Iterable[dict[str, Any]]) -> None:
        if not self.has_listeners:
            return
        for row in rows:
            fields = dict(row)
            type = EVENTS[fields.pop("state")]
            known = {"uuid": row["uuid"], "name": fields.pop("name"), "retries": fields["retries"]}
            if not self._is_one_row:
                arguments = {"args": row.get("args", f"({row['uuid']})"), "kwargs": row.get("kwargs", "{}")}
                self.eventer.send("task-received", root_id=row["uuid"], **arguments, **known)
                self.eventer.send("task-started", uuid=row["uuid"])
            self.eventer.send(type, **fields)
