"""
The way into the ledger: calls of durable tasks become rows of the current transaction.

Called by ``Task.apply_async``. Promises that a row exists if and only if the transaction around it
commits, that no broker is touched, and that all calls of one :func:`collecting` block are written by
one statement, or by one for every few thousand.
"""

import logging
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import groupby
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connection, connections, transaction

from celery_ledger.models import DurableTask
from celery_ledger.rows.calls import Call
from celery_ledger.rows.inserts import portions, write, write_behind_savepoint

logger = logging.getLogger(__name__)


class Mark:
    """
    Says whether the block of a transaction in which a call was made still stands.

    Django forgets what was to be called after COMMIT when it rolls the block back, and only then.
    """

    def __init__(self) -> None:
        self.is_committed = False
        #: Django's list in which this was seen last: it only grows, and is replaced by another when a block is undone.
        self._noted_in: object = None

    def __call__(self) -> None:
        self.is_committed = True

    def is_noted(self) -> bool:
        """Whether it is still to be called; without a look through the list if that is the one of the last time."""
        hooks = connection.run_on_commit
        if self._noted_in is not hooks:
            is_in = any(function is self for _, function, *_ in reversed(hooks))
            self._noted_in = hooks if is_in else None
        return self._noted_in is hooks


@dataclass
class Block:
    """Calls that are held back, and how deep in transactions their block began."""

    calls: list[Call] = field(default_factory=list)
    began_at: tuple[Hashable, ...] = field(default_factory=lambda: _depth())
    marks: dict[tuple[Hashable, ...], Mark] = field(default_factory=dict)

    def add(self, call: Call) -> None:
        """Hold a call back; if its transaction is within the block, only for as long as that stands."""
        depth = _depth()
        if depth != self.began_at:
            mark = self.marks.get(depth)
            if mark is None or not mark.is_noted():
                mark = self.marks[depth] = Mark()
                transaction.on_commit(mark)
            call = replace(call, mark=mark)
        self.calls.append(call)

    def standing(self) -> list[Call]:
        """Return the calls whose transactions have not been rolled back, and forget the marks."""
        if not self.marks:
            return self.calls
        noted = {id(function) for _, function, *_ in connection.run_on_commit}
        connection.run_on_commit = [hook for hook in connection.run_on_commit if not isinstance(hook[1], Mark)]
        return [call for call in self.calls if call.mark is None or call.mark.is_committed or id(call.mark) in noted]


_block: ContextVar[Block | None] = ContextVar("block", default=None)


@contextmanager
def collecting() -> Iterator[list[Call]]:
    """
    Hold back the calls made in this block and write them together when it ends well.

    Yields the calls so far, in order. An inner block adds to the outer one's calls. If the block
    raises, its calls are dropped, and so are those made in a part of its transaction that is rolled back.
    """
    outer = _block.get()
    if outer is not None:
        yield outer.calls
        return
    block = Block()
    token = _block.set(block)
    try:
        yield block.calls
    finally:
        _block.reset(token)
    _insert(block.standing())


def enqueue(call: Call) -> None:
    """
    Record ``call`` in the current transaction, or in one of its own where there is none.

    A second call with a ``unique_key`` that the ledger knows is not recorded; its ``on_known`` is told.
    """
    block = _block.get()
    if block is None:
        _insert([call])
        return
    block.add(call)


def refuse_known_id(name: str, id: UUID, unique_key: str | None) -> None:
    """
    Look whether the ledger has a row of this id already, but for one of the same ``unique_key``.

    Raises:
        ValueError: it has.
    """
    block = _block.get()
    held_back = [call.unique_key for call in block.calls if call.id == id] if block else []
    written = DurableTask.objects.filter(pk=id).values_list("unique_key", flat=True)
    for key in held_back or written:
        if key is None or key != unique_key:
            raise ValueError(f"{name}: the ledger has a task {id} already. Leave task_id out, or use a unique_key.")


def _insert(calls: Sequence[Call]) -> None:
    divided = list(portions(calls))
    if len(divided) > 1 and not connection.in_atomic_block:
        with transaction.atomic():
            _insert(calls)
        return
    for portion in divided:
        if any(call.blame for call in portion) and connection.in_atomic_block:
            _insert_with_care(portion)
        else:
            _tell_known(portion, write(portion))


def _insert_with_care(calls: Sequence[Call]) -> None:
    """Write calls of several makers together, and if the database refuses that, each maker's by themselves."""
    try:
        _tell_known(calls, write_behind_savepoint(calls))
    except OperationalError:
        raise
    except DatabaseError as error:
        logger.warning("%d calls could not be written together: %s", len(calls), error)
    else:
        return
    for blame, group in groupby(calls, key=lambda call: call.blame):
        own = list(group)
        try:
            with transaction.atomic():
                _tell_known(own, write(own))
        except OperationalError:
            raise
        except DatabaseError as error:
            if blame is None:
                raise
            logger.exception("The calls of a receiver were refused, and it is sent its signal again.")
            blame(error)


def _tell_known(calls: Iterable[Call], written: set[UUID]) -> None:
    """Tell calls that were not written which row the ledger has instead."""
    missed = [call for call in calls if call.id not in written]
    known: dict[str | None, UUID] = {}
    keys = [call.unique_key for call in missed if call.unique_key is not None]
    for start in range(0, len(keys), 500):
        rows = DurableTask.objects.filter(unique_key__in=keys[start : start + 500])
        known.update(rows.values_list("unique_key", "id"))
    for call in missed:
        if call.unique_key in known:
            if call.on_known:
                call.on_known(known[call.unique_key])
        elif call.unique_key is not None:
            write([call])  # Pruned since: nobody has it any more.
        else:
            logger.warning("%s %s was enqueued by somebody else at the same moment.", call.name, call.id)


def _depth() -> tuple[Hashable, ...]:
    """Return which block of a transaction this is: its savepoints, or nothing outside of any."""
    connection = connections[DEFAULT_DB_ALIAS]  # At once, for it is asked at each call.
    return ("transaction", *connection.savepoint_ids) if connection.in_atomic_block else ()
