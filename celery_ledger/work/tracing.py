"""
Tools that follow a task from its caller, if the project uses them: sentry-sdk and OpenTelemetry's instrumentation.

Both are designed for a worker that runs one task after another. Rows run together, start together and are reported
together, and a failed row may run again at once; so each row's place in its caller's trace is kept with it, and an
exception of a body is reported once that attempt is known to be the last.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery.exceptions import Retry

from celery_ledger.work.runnable import Runnable

logger = logging.getLogger(__name__)


@contextmanager
def at(place: Any) -> Iterator[None]:
    """Enter a place in a trace that :func:`here` returned, and restore the previous context at the end."""
    context = sys.modules.get("opentelemetry.context")
    if context is None:
        yield
        return
    before = context.get_current()
    if place is not None:
        context.attach(place)
    try:
        yield
    finally:
        context.attach(before)


def here() -> Any:
    """Return OpenTelemetry's current context. None: the project does not use OpenTelemetry."""
    context = sys.modules.get("opentelemetry.context")
    return context and context.get_current()


def link(requests: Sequence[Any], places: Sequence[Any]) -> None:
    """Link the span of a batch, which is its first row's, to the callers of all its rows, and the rows' spans to it."""
    if "opentelemetry.trace" not in sys.modules or "opentelemetry.propagate" not in sys.modules:
        return
    from opentelemetry import propagate, trace

    try:
        spans = [trace.get_current_span(place) for place in places]
        batch = spans[0].get_span_context()
        if not batch.is_valid:
            return
        seen = {batch.trace_id}
        for request, span in zip(requests[1:], spans[1:], strict=True):
            caller = trace.get_current_span(propagate.extract(request.headers or {})).get_span_context()
            if caller.is_valid and caller.trace_id not in seen:
                seen.add(caller.trace_id)
                spans[0].add_link(caller)
            span.add_link(batch)
    except Exception:
        logger.exception("A batch of %s cannot be linked to its callers.", requests[0].task)


class Unreported:
    """An exception of a body that sentry-sdk would have reported where it was raised."""

    def __init__(self) -> None:
        self._scopes: Any = None
        self._is_wanted = False
        self._is_sent = False

    def hold(self, event: Any, hint: Any) -> Any:
        """Hold back sentry-sdk's event for an error that leaves a body; the body's own reports are sent."""
        raised = (event.get("exception") or {}).get("values") or ()
        if self._is_sent or not any((each.get("mechanism") or {}).get("type") == "celery" for each in raised):
            return event
        self._is_wanted = True
        return None

    def keep(self, error: BaseException, *scopes: Any) -> None:
        """Record where the error was raised."""
        if self._is_wanted or isinstance(error, Retry):
            self._scopes = scopes

    def send(self, error: BaseException) -> None:
        """Report ``error``: it was the last attempt."""
        if self._scopes is None or self._is_sent:
            return
        import sentry_sdk
        from sentry_sdk.integrations.dedupe import DedupeIntegration
        from sentry_sdk.scope import use_isolation_scope, use_scope
        from sentry_sdk.utils import event_from_exception

        self._is_sent = True
        event, hint = event_from_exception(
            (type(error), error, error.__traceback__),
            client_options=sentry_sdk.get_client().options,
            mechanism={"type": "celery", "handled": False},
        )
        isolation, current = self._scopes
        with use_isolation_scope(isolation), use_scope(current):
            DedupeIntegration.reset_last_seen()  # It has seen the event that was held back.
            sentry_sdk.capture_event(event, hint=hint)


@contextmanager
def followed_by_sentry(task: Runnable, request: Any) -> Iterator[None]:
    """Join this task to its caller's trace in sentry-sdk, if the project traces Celery's tasks with it."""
    sentry = sys.modules.get("sentry_sdk")
    if sentry is None or sentry.get_client().get_integration("celery") is None:
        yield
        return
    request.unreported = unreported = Unreported()
    with sentry.isolation_scope() as scope:
        scope.clear_breadcrumbs()
        scope.set_tag("celery_task_id", request.id)
        scope.add_event_processor(unreported.hold)
        caller = sentry.continue_trace(
            request.headers, op="queue.task.celery", name=task.name, source="task", origin="auto.queue.celery"
        )
        with sentry.start_transaction(caller):
            try:
                yield
            except Exception as error:
                unreported.keep(error, scope, sentry.get_current_scope().fork())
                raise


def report(task: Runnable, request: Any, error: BaseException) -> None:
    """Report the error with which a task failed permanently to sentry-sdk, if that follows tasks."""
    unreported = getattr(request, "unreported", None)
    if unreported is None or isinstance(error, tuple(task.throws)):
        return
    try:
        unreported.send(error)
    except Exception:
        logger.exception("The failure of %s %s cannot be reported.", task.name, request.id)
