"""
Making a call of a durable task: the last step of ``Task.apply_async``.

The call is checked completely, becomes a row of the caller's transaction, and is announced to tools that follow calls.
Every microsecond here is one of ``.delay()``, so options that most calls do not use are checked together and skipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from celery._state import get_current_worker_task
from celery.result import AsyncResult, EagerResult

from celery_ledger import databases
from celery_ledger.databases import on_commit
from celery_ledger.rows import (
    arguments,
    calls,
    canvases,
    following,
    large,
    options,
    outbox,
    places,
    revoking,
    serialized,
    stamps,
)
from celery_ledger.uuid7 import uuid7

#: The expiry of a call that was revoked before it was made.
NEVER: Final = datetime(1970, 1, 2, tzinfo=UTC)


def make(
    task: Any,
    args: Sequence[Any] | None,
    kwargs: dict[str, Any] | None,
    task_id: str | None,
    options: Mapping[str, Any],
) -> AsyncResult | EagerResult:
    """
    Write the row of a call of ``task``, and return its handle; see :meth:`celery_ledger.Task.apply_async`.

    Raises:
        TypeError, ValueError: as documented there.
    """
    if options.get("using") is None and not databases.are_several():
        return _make(task, args, kwargs, task_id, **options)
    with databases.using(databases.for_calls(options.get("using"))):
        return _make(task, args, kwargs, task_id, **options)


def _make(
    task: Any,
    args: Sequence[Any] | None,
    kwargs: dict[str, Any] | None,
    task_id: str | None,
    *,
    countdown: float | None = None,
    eta: datetime | str | None = None,
    queue: Any = None,
    priority: int | None = None,
    expires: float | datetime | str | None = None,
    unique_key: str | None = None,
    unique_for: str | float | timedelta | None = None,
    debounce: float | timedelta | None = None,
    debounce_at_most: float | timedelta | None = None,
    limit_key: str | None = None,
    using: str | None = None,  # It is in use.
    **others: Any,
) -> AsyncResult | EagerResult:
    name = task.name
    if task.soft_time_limit and task.time_limit and task.soft_time_limit > task.time_limit:
        raise ValueError(f"{name}: its soft_time_limit must be less than or equal to time_limit, as Celery says.")
    args, kwargs = tuple(args or ()), kwargs or {}
    task.check_arguments(args, kwargs)
    said = options.options_of(name, others) if others else {}
    if outbox.is_eager(task.app):
        return _apply_now(task, args, kwargs, task_id, **others)
    shared, debounce = _uniqueness(task, args, kwargs, unique_key, unique_for, debounce, debounce_at_most)
    if countdown is None and eta is None:
        countdown = debounce
    _add_limit_key(task, args, kwargs, limit_key, said)
    maker = get_current_worker_task()
    queue, priority = task.routed(args, kwargs, getattr(queue, "name", queue), priority, maker)
    id = uuid7() if task_id is None else calls.checked_id(name, task_id)
    handle = task.AsyncResult(str(id if task_id is None else task_id))
    if task.ignore_result or said.get("ignore_result"):
        handle.ignored = True
    countdown = calls.checked_countdown(name, countdown)
    eta = calls.checked_eta(name, eta)
    until = calls.checked_expires(name, task.expires if expires is None else expires)
    if task_id is not None:
        options.add_id(name, said, id, task_id, shared.get("unique_key"))
    canvas = None
    if place := following.place_of(name, others, id):
        said[canvases.KEY], canvas = place, UUID(place.get("id", id.hex))
        until = _unless_revoked(place, until)
    options.add_parent(said, maker)
    options.add_times(said, countdown, eta, until)
    texts = serialized.as_texts(task, args, kwargs, said, serializer=others.get("serializer"))
    call = calls.Call(
        id=id,
        name=calls.checked_name(name),
        queue=queue,
        args=texts[0],
        kwargs=texts[1],
        priority=calls.checked_priority(name, priority),
        countdown=countdown,
        eta=eta,
        expires=until,
        options=options.as_json(name, said),
        canvas=canvas,
        **shared,
        # A handle kept by the call would, when it is deleted, end the wait of another handle of the same task.
        on_known=(lambda known: setattr(handle, "id", str(known))) if shared else None,
    )
    if task_id is not None and canvases.current() is None:  # Celery creates the handles of a canvas.
        outbox.refuse_known_id(name, id, call.unique_key)
    _write(task, call, args, kwargs, said)
    if place and (revocable := place.get("stamps")):  # In between, by processes that do not see this transaction.
        on_commit(partial(revoking.revoke_stamped, id, revocable), robust=True)
    if maker is not None and others.get("add_to_parent", True):
        maker.add_trail(handle)
    return handle


def _unless_revoked(place: Mapping[str, Any], expires: Any) -> Any:
    """Return when a call expires: in the past if one of its stamps is revoked, so that it ends as REVOKED."""
    return NEVER if stamps.are_revoked(place.get("stamps") or {}) else expires


def _write(task: Any, call: calls.Call, args: tuple[Any, ...], kwargs: dict[str, Any], said: dict[str, Any]) -> None:
    """Write a call, and announce it to receivers of Celery's publish signals."""
    if not options.are_heard():
        outbox.enqueue(call)
        return
    announcement = options.Announcement(task.app, call, args, kwargs, said)
    announcement.before(said)
    outbox.enqueue(replace(call, options=options.as_json(task.name, said)))
    announcement.after()


def _uniqueness(
    task: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    key: Any,
    unique_for: Any,
    debounce: Any,
    at_most: Any,
) -> tuple[dict[str, Any], float | None]:
    """Return the key options of a call or its task, in the form that a row stores, and its debounce in seconds."""
    is_asked = unique_for is not None or debounce is not None
    if not is_asked:
        unique_for, debounce = task.unique_for, task.debounce
    if at_most is not None and debounce is None:
        raise ValueError(f"{task.name}: debounce_at_most takes a debounce.")
    at_most = task.debounce_at_most if at_most is None else at_most
    if key is None:
        key = task.unique_key(*large.resolved(args), **kwargs) if callable(task.unique_key) else task.unique_key
    key = calls.checked_key(task.name, key)
    if key is None:
        if is_asked:
            raise ValueError(f"{task.name}: unique_for and debounce take a unique_key.")
        return {}, None
    if debounce is not None:
        debounce = calls.checked_debounce(task.name, debounce)
        if unique_for not in (None, "pending"):
            raise ValueError(f"{task.name}: with debounce a key is unique while pending, not {unique_for!r}.")
        unique_for = "pending"
    unique_for, term = calls.checked_unique_for(task.name, unique_for)
    shared = {"unique_key": key, "unique_for": unique_for, "term": term, "replaces": debounce is not None}
    if debounce is not None and at_most is not None:
        shared["at_most"] = calls.checked_debounce(task.name, at_most)
        debounce = min(debounce, shared["at_most"])
    return shared, debounce


def _add_limit_key(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], key: Any, said: dict[str, Any]) -> None:
    """Add the limit key of the call, or else of its task, to the row's options."""
    if key is None and (key := task.limit_key) is None:
        return
    if callable(key):
        key = key(*large.resolved(args), **kwargs)
    if key is None:
        return
    if task.concurrency_per_key is None:
        raise ValueError(f"{task.name}: a limit_key requires that the task says concurrency_per_key.")
    said[places.OPTION] = calls.checked_key(task.name, key, option="limit_key")


def _apply_now(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], task_id: Any, **others: Any) -> EagerResult:
    """Run the body at once, as ``task_always_eager`` asks for; no row is written."""
    given = arguments.read(calls.arguments_as_json(task.name, args))
    if task.batch_size > 1:
        given = [given]
    named = arguments.read(calls.arguments_as_json(task.name, kwargs))
    return task.apply(given, named, task_id=None if task_id is None else str(task_id), **others)
