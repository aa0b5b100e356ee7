"""
Successors of rows, written in the transaction that ends the row.

Links, the next step of a chain and the parts of chords exist if and only if the success is recorded; likewise the calls
of errbacks, and the consequences that a final failure or a cancellation has for the rest. Celery's own signatures make
the calls, under the ids that the caller was given; if such a call already exists, nothing is written.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import UUID

from celery import states
from celery.app.task import Context
from celery.canvas import signature
from celery.exceptions import ChordError, NotRegistered, TaskRevokedError
from celery.result import ResultBase
from celery.utils.functional import arity_greater, maybe_list
from django.db import DatabaseError

from celery_ledger.context import working_on
from celery_ledger.databases import atomic
from celery_ledger.faults import crash_point
from celery_ledger.ids import call_id, row_id
from celery_ledger.models import DurableTask
from celery_ledger.rows import arguments, canvases, chords, large, outbox, results, stamps, steps
from celery_ledger.rows.ledger import Started
from celery_ledger.uuid7 import uuid7

logger = logging.getLogger(__name__)

#: Celery's names for a call's place in a canvas.
OPTIONS: Final = frozenset(("link", "link_error", "chain", "chord", "group_id", "group_index", "replaced_task_nesting"))
#: Those of them that Celery's signatures carry.
SIGNATURES: Final = ("link", "link_error", "chain", "chord")
#: Why nothing follows in a canvas that was cancelled as a whole.
REVOKED: Final = "Its canvas was cancelled."


# --- The call -----------------------------------------------------------------------------


def place_of(name: str, given: Mapping[str, Any], id: UUID) -> dict[str, Any]:
    """
    Return the canvas entry for the row of a call with these options; empty for most.

    The rest of a chain is stored by reference, in the current transaction.

    Raises:
        TypeError: a link, errback or step is not a signature.
        ValueError: a step of a chain is too large.
    """
    canvas = canvases.current()
    if canvas is None and not given:
        return {}
    said: dict[str, Any] = {}
    for option in OPTIONS & given.keys():
        value = given[option]
        if value or (value is not None and option == "group_index"):
            said[option] = _as_kept(name, option, value)
    if said or canvas:
        said["id"] = (canvas or (id if id.version == 7 else uuid7())).hex  # It contains the time for pruning.
        if canvases.is_of_errback():
            said[canvases.ERRBACK] = True
    if stamped := given.get("stamped_headers"):
        said["stamped_headers"] = list(maybe_list(stamped))
        said["stamps"] = {name: given.get(name, []) for name in said["stamped_headers"]}
    return said


def _as_kept(name: str, option: str, value: Any) -> Any:
    """Return the stored form of an option."""
    if option not in SIGNATURES:
        return value
    if not isinstance(value, (steps.Rest, chords.Body)):
        value = list(value) if isinstance(value, (list, tuple)) else [value]
        if strange := [one for one in value if not isinstance(one, Mapping) or "task" not in one]:
            raise TypeError(f"{name}: {option} takes signatures, such as {name}.s(), and not {strange[0]!r}.")
    if option == "chain":
        return steps.keep(value).as_list()
    return value if option != "chord" else True


def for_the_request(row: Started) -> dict[str, Any]:
    """Return the canvas attributes of ``self.request`` for a row."""
    canvas = canvases.of(row.options)
    if not canvas:
        return {}
    rest = steps.Rest.read(canvas.get("chain", ()))
    group = canvas.get("group_id")
    said = {
        "callbacks": canvas.get("link"),
        "errbacks": canvas.get("link_error"),
        "chain": rest or None,
        "chord": chords.Body(group) if canvas.get("chord") and group else None,
        "group": group,
        "group_index": canvas.get("group_index"),
        "replaced_task_nesting": canvas.get("replaced_task_nesting", 0),
        "canvas": canvas.get("id"),
    }
    return said | {name: canvas[name] for name in ("stamped_headers", "stamps") if name in canvas}


# --- Success ------------------------------------------------------------------------------


def succeeded(app: Any, ended: Sequence[tuple[Started, Any]], first: Callable[[], None]) -> None:
    """
    Write the successors of rows that succeeded, with their results, in the completing transaction.

    To be called last in that transaction. It does nothing for rows that nothing follows, which are most. ``first`` is
    written before that.

    Raises:
        TypeError, ValueError: a result cannot be passed on, because it is not JSON or too large.
    """
    followed = [(row, value) for row, value in ended if _is_followed(canvases.of(row.options))]
    if not followed:
        first()
        return
    calling = {_canvas_of(row) for row, _ in followed if calls_others(row)}
    revoked = stamps.revoked_canvases(calling) if calling else ()
    with canvases.following(), outbox.holding() as calls:
        _call_next(
            app, [(row, value) for row, value in followed if calls_others(row) and _canvas_of(row) not in revoked]
        )
    parts = [_part_of(row, value) for row, value in followed if _is_member(canvases.of(row.options))]
    crash_point("canvas.before_next")
    if not parts and not revoked:
        outbox.write_last(calls, first)
        return
    if calling:
        first()
        outbox.write_held(calls)
    crash_point("canvas.before_parts")
    if parts:
        add_parts(app, parts, first=nothing if calling else first, is_last=not revoked)
    if revoked:
        stopped = [row for row, _ in followed if _canvas_of(row) in revoked and calls_others(row)]
        ends = [(canvases.of(row.options), call_id(row.id, row.options)) for row in stopped]
        _doom_after(app, ends, TaskRevokedError(REVOKED), state=states.REVOKED)


def _call_next(app: Any, followed: Sequence[tuple[Started, Any]]) -> None:
    """Call the links and the next steps of rows."""
    rests = {row.id: steps.Rest.read(canvases.of(row.options).get("chain", ())) for row, _ in followed}
    signatures = steps.read(rest.next for rest in rests.values() if rest)
    for row, value in followed:
        canvas, rest = canvases.of(row.options), rests[row.id]
        with _after(row):
            given = _given(row, canvas, value)
            for callback in canvas.get("link", ()):
                signature(callback, app=app).apply_async(given)
            if rest:
                step = signature(signatures[rest.next], app=app)
                step.apply_async(given, **({"chain": rest.after_next} if rest.after_next else {}))


def _given(row: Started, canvas: Mapping[str, Any], value: Any) -> tuple[Any, ...]:
    """Return the value that a row passes to its links and to the next step."""
    value = value.as_tuple() if isinstance(value, ResultBase) else value
    return (large.to_be_given(row.name, value),) if _calls_others(canvas) else ()


def _part_of(row: Started, value: Any) -> chords.Done:
    canvas, id = canvases.of(row.options), call_id(row.id, row.options)
    part = _part(canvas["group_id"], canvas.get("group_index"), row.id, value, id, (row.options or {}).get("root_id"))
    return replace(part, subject=row.subject, request_id=row.request_id)


def _part(group_id: str, place: int | None, row: UUID, value: Any, id: str, root: str | None) -> chords.Done:
    return chords.Done(row_id(group_id), row, _LAST if place is None else place, results.as_json(value), id, root or id)


#: The place of a part that has none among the others.
_LAST: Final = 2**31 - 1


def nothing() -> None:
    """Write nothing."""


def add_parts(
    app: Any, parts: Sequence[chords.Done], *, first: Callable[[], None] = nothing, is_last: bool = True
) -> None:
    """
    Add results of chord members, in the transaction that completes them, and call the bodies that are due.

    ``first`` is written before that. ``is_last`` says that this ends the transaction.
    """
    complete = list(chords.add(parts, first))
    crash_point("canvas.before_body")
    uncalled: dict[str, BaseException] = {}
    with canvases.following(), outbox.holding() as held, outbox.collecting() as calls:
        for chord in complete:
            made = len(calls)
            try:
                if chord.is_revoked:
                    raise ChordError(REVOKED)
                _call_body(app, chord)
            except DatabaseError:
                raise
            except ChordError as error:
                uncalled[str(chord.id)] = error
            except Exception as error:
                logger.exception("The body of the chord %s cannot be called.", chord.id)
                del calls[made:]
                uncalled[str(chord.id)] = ChordError(f"Callback error: {error!r}")
    if uncalled or not is_last:
        outbox.write_held(held)
        if uncalled:
            _fail_chords(app, uncalled)
    elif held:
        outbox.write_last(held, nothing)


def _call_body(app: Any, chord: chords.Complete) -> None:
    """Call the body of a complete chord, in a savepoint unless it is one task, whose call writes nothing yet."""
    with (
        canvases.within(chord.canvas),
        canvases.called_by(chord.last.id, chord.last.root),
        working_on(request_id=chord.last.request_id, subject=chord.last.subject),
        atomic() if chord.body.get("subtask_type") else nullcontext(),
    ):
        signature(chord.body, app=app).apply_async(() if chord.results is None else (chord.results,))


def told_of_part(app: Any, request: Any, state: str, value: Any) -> None:
    """
    Count an ended member of a chord that is not durable, in a separate transaction.

    A crash before that loses the part, as with Celery; a part that arrives twice counts once.
    """
    with atomic():
        if state == states.SUCCESS:
            row = row_id(request.id)
            add_parts(app, [_part(request.group, request.group_index, row, value, request.id, request.root_id)])
        else:
            _fail_chords(app, {request.group: _missing_part(request.id, value)})


def is_followed(row: Started) -> bool:
    """Whether a successful row has successors."""
    return _is_followed(canvases.of(row.options))


def calls_others(row: Started) -> bool:
    """Whether a successful row has successors other than a chord that it is a part of."""
    return _calls_others(canvases.of(row.options))


def part_of(row: Started, value: Any) -> dict[str, Any] | None:
    """
    Return the chord of a row, for the statement that finishes it; None: it is in no chord.

    Raises what kombu raises for a value that is not JSON.
    """
    if not _is_member(canvases.of(row.options)):
        return None
    part = _part_of(row, value)
    return {"chord": part.chord, "place": part.place, "value": part.value}


def _is_member(canvas: Mapping[str, Any]) -> bool:
    return bool(canvas.get("chord") and canvas.get("group_id"))


def _is_followed(canvas: Mapping[str, Any]) -> bool:
    return _calls_others(canvas) or _is_member(canvas)


def _canvas_of(row: Started) -> UUID:
    canvas = canvases.of(row.options)
    return UUID(canvas["id"]) if "id" in canvas else row.id


def _calls_others(canvas: Mapping[str, Any]) -> bool:
    return bool(canvas.get("link") or canvas.get("chain"))


@contextmanager
def _after(row: Started) -> Iterator[None]:
    """Set a row as the predecessor of calls."""
    id = call_id(row.id, row.options)
    with (
        canvases.within(_canvas_of(row)),
        canvases.called_by(id, (row.options or {}).get("root_id") or id),
        working_on(request_id=row.request_id, subject=row.subject),
    ):
        yield


# --- Failure ------------------------------------------------------------------------------


def failed(app: Any, row: Started, request: Context, error: BaseException, traceback: str) -> None:
    """
    Write the consequences of a row's final failure, in the transaction that records it.

    Its errbacks are called, but only once however often it is replayed. Whatever can no longer run is marked as failed,
    and so is the body of its chord, whose errbacks are called once. If a replay succeeds, all of it runs after all.
    """
    canvas = canvases.of(row.options)
    if not canvas:
        return
    with canvases.following(), _after(row), outbox.collecting():
        if canvas.get("link_error") and not canvas.get("told"):
            DurableTask.objects.filter(id=row.id).update(
                options={**(row.options or {}), canvases.KEY: {**canvas, "told": True}}
            )
            _call_errbacks(app, canvas["link_error"], request, error, traceback)
        _doom_after(app, [(canvas, request.id)], error, state=states.FAILURE)


def cancelled(app: Any, rows: Sequence[tuple[UUID, Mapping[str, Any] | None]], error: BaseException) -> None:
    """
    Write the consequences of cancelling rows, given with their options, in the cancelling transaction.

    The rest of their chains ends in the same way, and their chords fail.
    """
    ends = [(canvases.of(options), call_id(id, options)) for id, options in rows]
    _doom_after(app, [end for end in ends if _is_followed(end[0])], error, state=states.REVOKED)


def resumed(app: Any, ids: Sequence[UUID]) -> None:
    """Clear the failure of everything that waits for these replayed rows, in the current transaction."""
    waiting: list[str] = []
    replayed = list(DurableTask.objects.filter(id__in=ids, canvas__isnull=False).values_list("canvas", "options"))
    stamps.allow_canvases({canvas for canvas, _ in replayed if canvas})
    for _, options in replayed:
        canvas = canvases.of(options)
        rest = steps.Rest.read(canvas.get("chain", ()))
        groups = [canvas["group_id"]] if canvas.get("chord") and canvas.get("group_id") else []
        _gather(rest, waiting, groups)
        for group_id in groups:  # The list grows outwards.
            if (body := chords.body_of(group_id)) is not None:
                _gather([body, *_after_the_body(body)], waiting, groups)
    if waiting:
        results.forget_doomed(app, waiting)


def _gather(rest: Sequence[Any], ids: list[str], groups: list[str]) -> None:
    for step in rest:
        ids += ids_of(step)
        groups += [group for group in _chords_of(step) if group not in groups]


def _doom_after(app: Any, ends: Sequence[tuple[Mapping[str, Any], str]], error: BaseException, *, state: str) -> None:
    """Mark the tasks that can no longer run after these rows, given by canvas entry and id."""
    ids: list[str] = []
    failing: dict[str, BaseException] = {}
    for canvas, id in ends:
        for step in steps.Rest.read(canvas.get("chain", ())):
            ids += ids_of(step)
            for group_id in _chords_of(step):
                failing.setdefault(group_id, ChordError(f"Dependency raised {error!r}"))
        if canvas.get("chord") and canvas.get("group_id"):
            failing.setdefault(canvas["group_id"], _missing_part(id, error))
    results.record_doomed(app, list(dict.fromkeys(ids)), state, error)
    _fail_chords(app, failing)


def _missing_part(id: str, error: Any) -> ChordError:
    """Return the error of a chord with a failed member."""
    failure = ChordError(f"Dependency {id} raised {error!r}")
    failure.__cause__ = error if isinstance(error, BaseException) else None
    return failure


def _fail_chords(app: Any, failing: Mapping[str, BaseException]) -> None:
    """Fail chords, and chords that wait for them; call the errbacks of their bodies, once for each chord."""
    errors = dict(failing)
    bodies: dict[str, dict[str, Any]] = {}
    while fresh := errors.keys() - bodies.keys():
        found = chords.bodies_of(fresh)
        for group_id in fresh:
            bodies[group_id] = body = found.get(group_id, {})
            for waiting in (body, *_after_the_body(body)):
                for outer in _chords_of(waiting):
                    errors.setdefault(outer, errors[group_id])
    # Only now, because all code locks chords in one order, inner ones and outer ones.
    for chord, group_id in chords.fail(errors):
        error, body = errors[group_id], bodies[group_id]
        if body.get("subtask_type") == "group":  # The message that Celery uses.
            error = error.__cause__ or error
        with canvases.following(), canvases.within(chord.canvas), outbox.collecting():
            for id, errbacks in _errbacks_of(body):
                request = Context(
                    id=id, errbacks=errbacks, task=body.get("task"), root_id=id, delivery_info={}, args=(), kwargs={}
                )
                _call_errbacks(app, errbacks, request, error, None)
        ids = [id for waiting in (body, *_after_the_body(body)) for id in ids_of(waiting)]
        results.record_doomed(app, ids, states.FAILURE, error)


def _after_the_body(body: Mapping[str, Any]) -> Sequence[Any]:
    return body.get("options", {}).get("chain") or ()


def _call_errbacks(
    app: Any, errbacks: Sequence[Any], request: Context, error: BaseException, traceback: str | None
) -> None:
    """
    Call errbacks as Celery does: immediately if they take the request, the error and the traceback.

    Others are enqueued with the id of the task that failed.
    """
    for errback in arguments.revived(list(errbacks)):
        call = signature(errback, app=app)
        try:
            with atomic(), canvases.calling_errbacks():
                if _takes_it_all(call):
                    call(request, error, traceback)
                else:
                    call.apply_async((request.id,), parent_id=request.id, root_id=request.root_id or request.id)
        except DatabaseError:
            raise
        except Exception:
            logger.exception("The errback %s of %s failed.", call.task, request.id)


def _takes_it_all(call: Any) -> bool:
    try:
        header = getattr(call.type, "__header__", None)
    except NotRegistered:
        return False
    return header is not None and not isinstance(header, partial) and arity_greater(header, 1)


# --- What a signature is made of ----------------------------------------------------------


def ids_of(step: Mapping[str, Any]) -> list[str]:
    """Return the ids that a signature specifies for its tasks."""
    kind, kwargs = step.get("subtask_type"), step.get("kwargs", {})
    if kind in ("chain", "group"):
        return [id for inner in kwargs.get("tasks", ()) for id in ids_of(inner)]
    if kind == "chord":
        header, body = kwargs.get("header") or (), kwargs.get("body") or {}
        members = header.get("kwargs", {}).get("tasks", ()) if isinstance(header, Mapping) else header
        return [*(id for inner in members for id in ids_of(inner)), *ids_of(body)]
    id = step.get("options", {}).get("task_id")
    return [id] if id else []


def _chords_of(step: Mapping[str, Any]) -> list[str]:
    """Return the group ids of the chords that wait for a signature."""
    options, kind = step.get("options", {}), step.get("subtask_type")
    found = [options["group_id"]] if options.get("chord") and options.get("group_id") else []
    if kind in ("chain", "group"):
        inner = step.get("kwargs", {}).get("tasks", ())
        found += [id for one in inner for id in _chords_of(one)]
    if kind == "chord":
        found += _chords_of(step.get("kwargs", {}).get("body") or {})
    return list(dict.fromkeys(found))


def _errbacks_of(body: Mapping[str, Any]) -> list[tuple[str | None, list[Any]]]:
    """Return the tasks of a body and their errbacks: all tasks of a group, else the first task."""
    if body.get("subtask_type") == "group":
        return [one for inner in body.get("kwargs", {}).get("tasks", ()) for one in _errbacks_of(inner)]
    errbacks = list(maybe_list(body.get("options", {}).get("link_error")) or ())
    ids = ids_of(body)
    return [(ids[-1] if ids else None, errbacks)] if errbacks else []
