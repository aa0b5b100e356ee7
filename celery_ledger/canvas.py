"""
Celery's canvas, for durable tasks.

Chains, groups and chords are Celery's own signatures, called as usual. This module works around them: everything that
one signature calls becomes rows of one transaction, with one INSERT or a few, and the app's result backend leaves the
counting of a chord's parts to the ledger. Apps without durable tasks are not affected.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from celery import canvas
from celery.app.base import Celery
from celery.result import AsyncResult
from celery.utils import uuid

from celery_ledger import clock, databases
from celery_ledger.backend import waiting_by_the_ledger
from celery_ledger.databases import atomic, on_commit

__all__ = ["install"]

#: Bodies and handles of chords whose headers are about to be called, keyed by group id.
_opening: ContextVar[dict[str, tuple[Any, Any]] | None] = ContextVar("opening", default=None)
#: Whether a chord is being called: it counts its members after its transaction has committed. None: no canvas is.
_is_chord: ContextVar[bool | None] = ContextVar("is_chord", default=None)
#: What Celery calls when a canvas is called.
CALLED = ((canvas._chain, "run"), (canvas.group, "apply_async"), (canvas._chord, "apply_async"))
#: How many positional arguments a group's call accepts before the producer.
BEFORE_PRODUCER = 3


class _NoProducer:
    """
    A stand-in for the producer that a group passes to its members, so that Celery takes none from its pool.

    It is falsy, so that a plain task among the members takes a real producer when it is published.
    """

    serializer = None  # Eager apps read this attribute.

    def __bool__(self) -> bool:
        return False


NO_PRODUCER = _NoProducer()


def install(app: Celery) -> None:
    """Make chains, groups and chords of ``app`` transactional, and let the ledger count the chords' parts."""
    for theirs, name in CALLED:
        method = theirs.__dict__[name]
        if not hasattr(method, "calls_in_one_transaction"):
            setattr(theirs, name, _in_one_transaction(method))
    app._get_backend = _with_the_ledger(app._get_backend)
    if app._backend is not None:
        app._backend = waiting_by_the_ledger(leave_counting(app._backend))


def _in_one_transaction(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        app = options.get("app") or self.app
        if "celery_ledger" not in app.__dict__ or app.conf.task_always_eager:
            return method(self, *args, **options)
        if databases.are_several() or "using" in options:  # All of a canvas is in one database.
            with databases.using(databases.for_calls(options.pop("using", None))):
                return within(self, args, options)
        return within(self, args, options)

    def within(self: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        from celery_ledger.rows import canvases, outbox, steps

        # What follows a task is part of the transaction that completes the task, and has no savepoint of its own; nor
        # has what another canvas calls.
        is_inner = canvases.is_following() or _is_chord.get() is not None
        whole: AbstractContextManager[Any] = nullcontext() if is_inner else atomic()
        collecting = outbox.collecting() if is_inner else outbox.collecting_in_portions()
        with canvases.gathering(), whole, collecting, _within_chord(isinstance(self, canvas._chord)):
            # Nested groups would wait for each other's producers as soon as they need more than the pool has.
            if isinstance(self, canvas.group) and len(args) <= BEFORE_PRODUCER and options.get("producer") is None:
                options["producer"] = NO_PRODUCER
            if isinstance(self, canvas._chord):
                if options.get("chain"):
                    options["chain"] = steps.keep(options["chain"])  # Otherwise each member would carry a copy.
                if options.get("countdown"):  # Celery reads it as the interval at which to check the header.
                    options.setdefault("eta", clock.now() + timedelta(seconds=options.pop("countdown")))
            return method(self, *args, **options)

    call.calls_in_one_transaction = True  # type: ignore[attr-defined]
    return call


@contextmanager
def _within_chord(is_chord: bool) -> Iterator[None]:
    token = _is_chord.set(is_chord or bool(_is_chord.get()))
    try:
        yield
    finally:
        _is_chord.reset(token)


def _with_the_ledger(make: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(make)
    def make_and_tell() -> Any:
        return waiting_by_the_ledger(leave_counting(make()))

    return make_and_tell


def leave_counting(backend: Any) -> Any:
    """Make a result backend leave the counting of chords to the ledger, and return it."""
    theirs = backend.on_chord_part_return

    def apply_chord(header_result_args: Any, body: Any, **_: Any) -> None:
        opening = _opening.get()
        if opening is None:
            _opening.set(opening := {})
        group_id, handles = header_result_args
        opening[group_id] = body, handles

    def set_chord_size(group_id: str, size: int) -> None:
        from celery_ledger.rows import chords

        # Celery sets the size again for a group that is itself a body; its members are counted in the outer chord's
        # size.
        if (opened := (_opening.get() or {}).pop(group_id, None)) is not None:
            chords.keep(group_id, *opened, size)

    def on_chord_part_return(request: Any, state: str, result: Any, **options: Any) -> Any:
        from celery_ledger.rows import chords, following

        if not request.group or not chords.is_known(request.group):
            return theirs(request, state, result, **options)
        following.told_of_part(backend.app, request, state, result)
        return None

    def add_to_chord(group_id: str, result: Any) -> None:
        from celery_ledger.rows import chords

        if not chords.extend(group_id):
            raise ValueError(f"The ledger has no chord {group_id}.")

    backend.apply_chord = apply_chord
    backend.set_chord_size = set_chord_size
    backend.on_chord_part_return = on_chord_part_return
    backend.add_to_chord = add_to_chord
    return backend


def send_plainly(
    send: Callable[..., Any],
    args: Any,
    kwargs: Any,
    countdown: float | None,
    eta: Any,
    task_id: str | None,
    options: dict[str, Any],
) -> Any:
    """
    Send the message of a plain task, with everything that the ledger keeps of its canvas by value.

    A message that follows a durable task is sent after the commit that ends the task. A message of a chord's header is
    sent after the commit that writes the chord, because the chord could not count a member that ended earlier. A crash
    in between loses the message.
    """
    from celery_ledger.rows import canvases, chords, large, steps

    send = functools.partial(send, large.resolved(args), kwargs, countdown, eta)
    whole = dict(options)
    if isinstance(whole.get("chain"), steps.Rest):
        whole["chain"] = list(whole["chain"])
    if isinstance(whole.get("chord"), chords.Body):
        whole["chord"] = whole["chord"].signature
    if (caller := canvases.caller()) is not None:
        whole = {"parent_id": caller[0], "root_id": caller[1]} | whole
    if not canvases.is_following() and not _is_chord.get():
        return send(task_id, **whole)
    for ours in ("producer", "publisher"):  # By then they belong to another group.
        whole.pop(ours, None)
    id = task_id or uuid()
    on_commit(functools.partial(send, id, **whole))
    return whole.get("result_cls", AsyncResult)(id)
