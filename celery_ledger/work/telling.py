"""
Notifications to Celery's own tooling about a row: as if each row were a separate message.

Signals (``task_prerun``, ``task_success`` and the others), hooks of the task (``before_start``, ``on_failure`` and
the others), ``self.request``, and the data from which the worker's parent creates events for Flower. An attempt starts
once, even if a batch failed and its rows run again one by one; its outcome is reported when it is committed, and
matches the ledger. A hook or receiver that fails then no longer changes anything.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery._state import _task_stack
from celery.app import trace
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry

from celery_ledger.context import current_carrier, working_on, working_on_items
from celery_ledger.ids import call_id
from celery_ledger.rows import following, ledger
from celery_ledger.rows.options import for_the_request
from celery_ledger.rows.wording import sendable, shown, traceback_of
from celery_ledger.work import backends, lines, tracing
from celery_ledger.work.runnable import Runnable

logger = logging.getLogger(__name__)

#: Longest value or error that events show, in characters.
MOST_SHOWN = 500


class Telling:
    """The notifications about one attempt of one row."""

    def __init__(self, task: Runnable, row: ledger.Started) -> None:
        self.task = task
        self.row = row
        self.request = request_of(task, row)
        self.id = self.request.id
        #: The data from which the worker's parent creates events, once the attempt has ended; None without listeners.
        self.event: dict[str, Any] | None = None
        #: Its place in its caller's trace, for tools that follow traces.
        self.place: Any = None
        self._began: float | None = None
        self._ran = 0.0
        self._has_started = False
        carrier = current_carrier()
        self._has_listeners = carrier is None or carrier.has_listeners

    def begin(self) -> None:
        """Report that the body is about to run; an exception in ``before_start`` counts as an error of the body."""
        with self._current(), tracing.at(self.place):
            if self._began is None:
                self._began = monotonic()
                lines.received(self.task, self.row, self.request)
                signals.task_prerun.send(sender=self.task, task_id=self.id, task=self.task, **self._arguments())
                self.place = tracing.here()
            if self.row.unreadable is not None:
                raise self.row.unreadable
            if not self._has_started:
                if self.task.track_started:
                    began = {"pid": os.getpid(), "hostname": self.request.hostname}
                    backends.store(self.task, self.request, states.STARTED, began)
                self.task.before_start(self.id, self.row.args, self.row.kwargs)
                self._has_started = True

    def succeed(self, value: Any) -> None:
        """Report the committed success; after ``Ignore``, report as little as Celery does."""
        if isinstance(value, Ignore):
            self._end(states.IGNORED, value, None, lambda _: self._say(trace.LOG_IGNORED, "ignored"))
            return
        self._end(states.SUCCESS, value, lambda: {"result": shown(value)[:MOST_SHOWN]}, self._tell_success)

    def fail(self, error: Exception, *, state: str) -> None:
        """
        Report that the attempt failed, and is to be retried or was the last; this is already committed.

        After ``Reject``, report as little as Celery does.
        """
        if isinstance(error, Reject):
            self._end(states.REJECTED, error, None, lambda _: self._say(trace.LOG_REJECTED, shown(error)))
            return
        cause = error.exc if isinstance(error, Retry) and error.exc is not None else error
        tell = self._tell_retry if state == states.RETRY else self._tell_failure
        self._end(
            state,
            error,
            lambda: {"exception": shown(cause)[:MOST_SHOWN], "traceback": traceback_of(error)},
            lambda _: tell(error, cause),
        )

    def rest(self) -> None:
        """Note that the body has ended in any way, while the other rows' bodies and the commit are still to come."""
        if self._began is not None:
            self._ran = monotonic() - self._began

    def leave(self) -> None:
        """Report that the attempt ended, without an outcome: the row belongs to another worker."""
        if self._began is not None:
            self._end(states.RETRY, None, None, lambda _: None)

    def _end(
        self, state: str, value: Any, said: Callable[[], dict[str, Any]] | None, tell: Callable[[Any], None]
    ) -> None:
        with (
            self._current(),
            tracing.at(self.place),
            working_on(request_id=self.row.request_id, subject=self.row.subject),
        ):
            try:
                tell(value)
            except Exception:
                logger.exception("A hook of %s %s failed, when it had ended.", self.row.name, self.id)
            if self._began is not None:
                signals.task_postrun.send(
                    sender=self.task, task_id=self.id, task=self.task, retval=value, state=state, **self._arguments()
                )
        self._began = None
        if said is not None and self._has_listeners:
            self.event = self._event_of(state, said())

    def _event_of(self, state: str, said: dict[str, Any]) -> dict[str, Any]:
        options = self.row.options or {}
        arguments = {name: options[f"{name}repr"] for name in ("args", "kwargs") if f"{name}repr" in options}
        return {
            **arguments,
            "uuid": str(self.row.id),
            "name": self.row.name,
            "retries": self.row.attempts - 1,
            "state": state,
            "runtime": self._ran,
            **said,
        }

    def _say(self, form: str, description: str) -> None:
        lines.ended(self.row, self.request, form, description)

    def _tell_success(self, value: Any) -> None:
        lines.succeeded(self.task, self.row, self.request, value, self._ran)
        backends.store(self.task, self.request, states.SUCCESS, value)
        self.task.on_success(value, self.id, self.row.args, self.row.kwargs)
        signals.task_success.send(sender=self.task, result=value, runtime=self._ran)
        self.task.after_return(states.SUCCESS, value, self.id, self.row.args, self.row.kwargs, None)

    def _tell_failure(self, error: Exception, cause: BaseException) -> None:
        info = _info_of(error, cause)
        tracing.report(self.task, self.request, cause)
        lines.failed(self.task, self.row, self.request, cause, info)
        backends.store(self.task, self.request, states.FAILURE, cause, info.traceback)
        self.task.on_failure(cause, self.id, self.row.args, self.row.kwargs, info)
        signals.task_failure.send(
            sender=self.task,
            task_id=self.id,
            exception=cause,
            traceback=cause.__traceback__,
            einfo=info,
            **self._arguments(),
        )
        self.task.after_return(states.FAILURE, cause, self.id, self.row.args, self.row.kwargs, info)

    def _tell_retry(self, error: Exception, cause: BaseException) -> None:
        lines.is_due_again(self.row, self.request, cause)
        info = _info_of(error, cause)
        backends.store(self.task, self.request, states.RETRY, cause, info.traceback)
        said, info = (error.exc, _info_of(error, error)) if isinstance(error, Retry) else (error, info)
        self.task.on_retry(said, self.id, self.row.args, self.row.kwargs, info)
        signals.task_retry.send(sender=self.task, request=self.request, reason=error, einfo=info)

    def _arguments(self) -> dict[str, Any]:
        return {"args": self.row.args, "kwargs": self.row.kwargs}

    @contextmanager
    def _current(self) -> Iterator[None]:
        _task_stack.push(self.task)
        self.task.request_stack.push(self.request)
        try:
            yield
        finally:
            self.task.request_stack.pop()
            _task_stack.pop()


@contextmanager
def as_current(tellings: Sequence[Telling]) -> Iterator[None]:
    """
    Start the attempts of these rows, make the first of them ``self.request``, and their stories the context.

    Calls enqueued by a batch belong to the story of its rows only if all rows share it, or to the story of the item
    that the body names with :func:`celery_ledger.context.about_item`.
    """
    rows = [telling.row for telling in tellings]
    request_ids, subjects = {row.request_id for row in rows}, {row.subject for row in rows}
    for telling in tellings:
        telling.begin()
    if len(tellings) > 1:
        tracing.link([telling.request for telling in tellings], [telling.place for telling in tellings])
    with (
        tellings[0]._current(),
        tracing.at(tellings[0].place),
        working_on(
            request_id=rows[0].request_id if len(request_ids) == 1 else None,
            subject=rows[0].subject if len(subjects) == 1 else None,
        ),
        working_on_items(
            {row.args[0]: (row.request_id, row.subject) for row in rows if row.args and _is_id(row.args[0])}
        ),
    ):
        try:
            yield
        finally:
            for telling in tellings:
                telling.rest()


def _is_id(item: object) -> bool:
    return isinstance(item, (int, str))


def request_of(task: Runnable, row: ledger.Started) -> Context:
    """Return the object that a body sees as ``self.request``. Its id is the call's, the same in every attempt."""
    carrier = current_carrier()
    id = call_id(row.id, row.options)
    request = {
        "lang": "py",
        "task": row.name,
        "id": id,
        "root_id": id,
        "parent_id": None,
        "correlation_id": id,
        "args": row.args,
        "kwargs": row.kwargs,
        "argsrepr": shown(tuple(row.args))[:MOST_SHOWN],
        "kwargsrepr": shown(row.kwargs)[:MOST_SHOWN],
        "retries": row.attempts - 1,
        "attempt_limit": row.attempt_limit,
        "called_directly": False,
        "is_eager": False,
        "hostname": carrier.worker if carrier else socket.gethostname(),
        "delivery_info": {
            **(carrier.delivery_info if carrier else {}),
            "routing_key": row.queue,
            "priority": row.priority,
        },
        "timelimit": [task.time_limit, task.soft_time_limit],
        "ignore_result": task.ignore_result,
        "headers": {},
        "properties": {},
        "utc": True,
    }
    return Context(request | for_the_request(row.options) | following.for_the_request(row))


def _info_of(error: BaseException, cause: BaseException) -> "ExceptionInfo | _Untraced":
    """Return the error info for hooks; a cause that was never raised has the traceback of the error that names it."""
    trace = cause.__traceback__ or error.__traceback__
    # The ledger creates such errors itself, and no body raised them: all attempts are used up, or a process died.
    if trace is None:
        return _Untraced(cause)
    safe = sendable(cause)
    return ExceptionInfo((type(safe), safe, trace))


class _Untraced:
    """The error info that hooks receive for an error that was never raised: Celery's object, as far as possible."""

    def __init__(self, error: BaseException) -> None:
        self.type, self.exception, self.tb, self.internal = type(error), error, None, True
        self.traceback = traceback_of(error)

    def __str__(self) -> str:
        return self.traceback
