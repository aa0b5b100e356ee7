"""
The entrance to the ledger: calls of durable tasks become rows of the current transaction.

Called by ``Task.apply_async``. Promises that a row exists if and only if the transaction around it
commits, that no broker is touched, and that all calls of one :func:`collecting` block are written by
one statement, or by one for every few thousand.
"""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import count, groupby
from typing import Any
from uuid import UUID

from django.db import DatabaseError, OperationalError, connections, transaction

from celery_ledger import databases
from celery_ledger.databases import atomic, connection, current
from celery_ledger.models import Chord, DurableTask
from celery_ledger.rows import canvases, headers, keys
from celery_ledger.rows.calls import Call
from celery_ledger.rows.inserts import MOST_ROWS, portions, send, write, write_behind_savepoint
from celery_ledger.trips import with_the_commit

logger = logging.getLogger(__name__)

#: Seconds between two checks of a row that another transaction has locked, and the number of checks before this waits
#: for the lock, so that the database sees who waits for whom.
LOCKED_PAUSE, MOST_LOOKS = 0.005, 200


class Mark:
    """
    Tells whether the transaction block in which a call was made is still intact.

    Django drops a function registered for after COMMIT only when it rolls the block back.
    """

    def __init__(self) -> None:
        self.is_committed = False
        #: Django's list in which this was last seen: it only grows, and is replaced when a block is rolled back.
        self._noted_in: object = None

    def __call__(self) -> None:
        self.is_committed = True

    def is_noted(self) -> bool:
        """Whether the callback is still pending; checks the last one found before searching the list."""
        hooks = connection.run_on_commit
        if self._noted_in is not hooks:
            is_in = any(function is self for _, function, *_ in reversed(hooks))
            self._noted_in = hooks if is_in else None
        return self._noted_in is hooks


@dataclass
class Block:
    """Deferred calls, and the transaction depth at which their block started."""

    calls: list[Call] = field(default_factory=list)
    #: The database for which it collects. A call to another one is not a part of this transaction: see :func:`enqueue`.
    database: str = ""
    began_at: tuple[Hashable, ...] = field(default_factory=lambda: _depth())
    marks: dict[tuple[Hashable, ...], Mark] = field(default_factory=dict)
    #: Whether calls are written as soon as they fill a statement.
    in_portions: bool = False
    #: The apps whose ``task_always_eager`` was found to be off: with Django's settings, to ask takes a fifth of a call.
    not_eager: set[int] = field(default_factory=set)

    def add(self, call: Call) -> None:
        """Defer a call; drop it if its own inner transaction is rolled back."""
        depth = _depth()
        if depth != self.began_at:
            mark = self.marks.get(depth)
            if mark is None or not mark.is_noted():
                mark = self.marks[depth] = Mark()
                transaction.on_commit(mark, using=current())  # The mark itself, which is looked for among the hooks.
            call = replace(call, mark=mark)
        self.calls.append(call)
        if self.in_portions and len(self.calls) >= MOST_ROWS and not self.marks:
            _insert(self.calls)
            self.calls.clear()

    def stands(self, call: Call) -> bool:
        """Whether the transaction of a call has not been rolled back so far."""
        return call.mark is None or call.mark.is_committed or call.mark.is_noted()

    def standing(self) -> list[Call]:
        """Return the calls whose transactions have not been rolled back, and clear the marks."""
        if not self.marks:
            return self.calls
        noted = {id(function) for _, function, *_ in connection.run_on_commit}
        connection.run_on_commit = [hook for hook in connection.run_on_commit if not isinstance(hook[1], Mark)]
        return [call for call in self.calls if call.mark is None or call.mark.is_committed or id(call.mark) in noted]


_block: ContextVar[Block | None] = ContextVar("block", default=None)


@contextmanager
def collecting(body: Any = None) -> Iterator[list[Call]]:
    """
    Defer the calls made in this block, and write them together when it ends without an error.

    Yields the calls so far, in order. An inner block adds to the calls of the outer block. If the block raises, its
    calls are dropped; so are those made within a savepoint that is rolled back.

    With ``body``, a signature, the tasks called in the block become the header of a chord: the body is called when all
    of them have succeeded, or at once if there are none. Each is still a separate ``.delay()``. The chord also waits
    for a receiver of a durable signal that fails, and for the calls that the receiver makes when it is retried. It does
    not wait for chains, groups and chords called in the block, for tasks that are not durable, or for calls whose
    ``unique_key`` is held by another row.

    Raises:
        TypeError, ValueError: ``body`` is not a signature, not JSON, or too large.
    """
    header = None if body is None else headers.of(body)
    outer = _block.get()
    if outer is not None and (not databases.are_several() or outer.database == databases.for_calls()):
        with _within(outer, header):
            yield outer.calls
        return
    block = _new_block()
    token = _block.set(block)
    try:
        with _within(block, header):
            yield block.calls
    finally:
        _block.reset(token)
    if block.database == current():
        _insert(block.standing())
        return
    with databases.using(block.database):
        _insert(block.standing())


def _new_block() -> Block:
    if not databases.are_several():
        return Block(database=current())
    with databases.using(databases.for_calls()):
        return Block(database=current())


@contextmanager
def collecting_in_portions() -> Iterator[None]:
    """
    Write the calls of this block, which is a whole transaction or savepoint, a few thousand at a time.

    So no more of them are in memory. In the block of :func:`collecting`, it is an inner block like others.
    """
    is_outer = _block.get() is None
    with collecting():
        block = _block.get()
        assert block is not None
        block.in_portions |= is_outer
        yield


@contextmanager
def joining(header: headers.Header) -> Iterator[None]:
    """Make the body of an existing chord wait for the calls made in this block, too."""
    with collecting():
        block = _block.get()
        assert block is not None
        with _within(block, header):
            yield


@contextmanager
def _within(block: Block, header: headers.Header | None) -> Iterator[None]:
    first = len(block.calls)
    yield
    if header is None:
        return
    headers.add(header, block.calls, first)
    if header.body is not None and not any(
        call.header is header and block.stands(call) for call in block.calls[first:]
    ):
        _call_body(header)


def _call_body(header: headers.Header) -> None:
    with canvases.within(header.canvas):
        header.body.apply_async(([],))


@contextmanager
def holding() -> Iterator[list[Call]]:
    """
    Defer the calls made in this block until :func:`write_held`.

    The yielded list contains them once the block has ended, however it ended.
    """
    block = Block(database=current())
    held: list[Call] = []
    token = _block.set(block)
    try:
        yield held
    finally:
        _block.reset(token)
        held += block.standing()


def write_held(calls: Sequence[Call]) -> None:
    """Write deferred calls in the current transaction."""
    _insert(calls)


def write_last(calls: Sequence[Call], first: Callable[[], None]) -> None:
    """
    Write ``first`` and then deferred calls, as the end of the current transaction.

    On PostgreSQL, all of it and the ``COMMIT`` take one round trip. Calls whose ids the ledger has are left out.
    """
    divided = list(portions(calls))
    if connection.vendor == "postgresql" and len(divided) <= 1 and not any(map(_has_to_be_settled, calls)):
        with with_the_commit():
            first()
            for portion in divided:
                send(portion)
        return
    first()
    _insert(calls)


def _has_to_be_settled(call: Call) -> bool:
    return call.unique_key is not None or call.header is not None or call.blame is not None


def is_eager(app: Any) -> bool:
    """Whether calls run at once, as ``task_always_eager`` asks for; within a block, this is asked once."""
    block = _block.get()
    if block is None:
        return bool(app.conf.task_always_eager)
    if id(app) not in block.not_eager:
        if app.conf.task_always_eager:
            return True
        block.not_eager.add(id(app))
    return False


def enqueue(call: Call) -> None:
    """
    Write ``call`` in the current transaction, or in a separate one if there is none.

    A call whose ``unique_key`` is held by a row is not recorded; its ``on_known`` is called instead. Calls are
    collected for one database; a call to another one is written there at once.
    """
    block = _block.get()
    if block is None or block.database != current():
        _insert([call])
        return
    block.add(call)


def refuse_known_id(name: str, id: UUID, unique_key: str | None) -> None:
    """
    Refuse an id that the ledger already has, unless its row has the same ``unique_key``.

    Raises:
        ValueError: it has.
    """
    block = _block.get()
    held_back = [call.unique_key for call in block.calls if call.id == id] if block else []
    if held_back:
        is_other = unique_key is None or set(held_back) != {unique_key}
    else:
        is_there = DurableTask.objects.filter(pk=id).exists()
        is_other = is_there and (unique_key is None or not keys.is_for(id, unique_key))
    if is_other:
        raise ValueError(f"{name}: the ledger has a task {id} already. Leave task_id out, or use a unique_key.")


def _insert(calls: Sequence[Call]) -> None:
    divided = list(portions(calls))
    chords = headers.sizes(calls)
    if (len(divided) > 1 or chords) and not connection.in_atomic_block:
        with atomic():
            _insert(calls)
        return
    for portion in divided:
        if any(call.blame for call in portion) and connection.in_atomic_block:
            _insert_with_care(portion, chords)
        else:
            _settle(portion, write(portion, chords))
        chords = {}


def _insert_with_care(calls: Sequence[Call], chords: Mapping[headers.Header, int]) -> None:
    """Write calls of several makers together or, if the database refuses that, separately by maker."""
    try:
        _settle(calls, write_behind_savepoint(calls, chords))
    except OperationalError:
        raise
    except DatabaseError as error:
        logger.warning("%d calls could not be written together: %s", len(calls), error)
    else:
        return
    if chords:
        headers.write(chords)
    for blame, group in groupby(calls, key=lambda call: call.blame):
        own = list(group)
        try:
            with atomic():
                _settle(own, write(own))
        except OperationalError:
            raise
        except DatabaseError as error:
            if blame is None:
                raise
            logger.exception("The calls of a receiver were refused, and it is sent its signal again.")
            with _in_their_place(own):
                blame(error)


@contextmanager
def _in_their_place(calls: Sequence[Call]) -> Iterator[None]:
    """Make the chord that waits for refused calls wait for the calls of this block instead."""
    refused = headers.sizes(calls)
    with ExitStack() as stack:
        for header in refused:
            stack.enter_context(joining(headers.Header(header.id, header.canvas)))
        yield
    _leave_out(calls)


def _leave_out(calls: Iterable[Call]) -> None:
    """Remove calls that did not become rows from the chords that wait for them."""
    counts = headers.sizes(calls)
    if not counts:
        return
    headers.write({header: -count for header, count in counts.items()})
    for header in counts:
        if header.body is not None and Chord.objects.filter(id=header.id, missing=0).exists():
            _call_body(header)


def _settle(calls: Iterable[Call], written: set[UUID]) -> None:
    """Point unwritten calls to the rows that stand for them; write those whose key has become free."""
    missed = [call for call in calls if call.id not in written]
    for turn in count():
        if not missed:
            return
        if turn > 1:  # Another transaction locks the row without changing it; otherwise an INSERT would have waited.
            time.sleep(LOCKED_PAUSE)
        missed = _settle_once(missed, wait=turn > MOST_LOOKS)


def _settle_once(missed: Sequence[Call], *, wait: bool) -> list[Call]:
    """Settle once, and return the calls that were neither pointed to a row nor written."""
    ids = keys.standing(missed, wait=wait)
    for call in missed:
        if call.id in ids and call.on_known:
            call.on_known(ids[call.id])
    left = [call for call in missed if call.id not in ids]
    if not left:
        _leave_out(missed)
        return []
    known = set(DurableTask.objects.filter(pk__in=[call.id for call in left]).values_list("pk", flat=True))
    for call in left:
        if call.unique_key is None or call.id in known:
            logger.warning("%s %s was enqueued by another process at the same moment.", call.name, call.id)
    free = [call for call in left if call.unique_key is not None and call.id not in known]
    left_out = {call.id for call in missed} - {call.id for call in free}
    _leave_out(call for call in missed if call.id in left_out)
    written = write(free) if free else set()
    return [call for call in free if call.id not in written]


def _depth() -> tuple[Hashable, ...]:
    """Return the current transaction block: its savepoints; empty outside of any."""
    connection = connections[current()]  # Directly, because this runs at each call.
    return ("transaction", *connection.savepoint_ids) if connection.in_atomic_block else ()
