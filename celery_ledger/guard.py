"""
Isolation of code that runs alongside other code in one transaction.

A :class:`Guard` is put around each receiver of a signal. Whatever the receiver does, and wherever it fails,
the transaction is afterwards as if it had not run.
"""

from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Any, Final

from django.db import DatabaseError, connections

from celery_ledger.databases import current

#: libpq's status of a transaction in which a statement failed.
ABORTED: Final = 3
#: libpq's statuses of a transaction without a failure, and of a successful command.
IN_TRANSACTION: Final = 2
COMMAND_OK: Final = 1

_numbers = count()


class Guard:
    """
    A savepoint that costs nothing until the block sends its first query.

    Most receivers only enqueue and execute no SQL; a savepoint for each would cost two round trips. If the block
    raises, its writes are undone, and so is Django's mark for rollback, because a transaction marked for rollback
    refuses every query. A failure that the block swallowed counts as one.

    Raises:
        SpoiledError: the block ended normally, but left the transaction in a state that cannot be committed.
    """

    def __init__(self, *, releases: bool = True, lock_patience: float | None = None) -> None:
        """
        ``releases=False`` leaves the savepoint to the end of the transaction: a round trip less.

        Once a savepoint is open, statements wait for locks for at most ``lock_patience`` seconds.
        """
        self._releases = releases
        self._lock_patience = lock_patience
        # The connection itself: each access to django.db.connection looks it up again, and there are many here.
        self._connection: Any = connections[current()]
        self._savepoint: str | None = None
        self._opening = False

    def __enter__(self) -> None:
        self._was_spoiled = self._connection.needs_rollback
        self._blocks, self._savepoints = len(self._connection.atomic_blocks), len(self._connection.savepoint_ids)
        self._hooks = len(self._connection.run_on_commit)
        self._watch = self._connection.execute_wrapper(self._before_query)
        self._watch.__enter__()

    def _before_query(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        if self._savepoint is None and not self._opening and self._connection.in_atomic_block:
            self._opening = True  # Opening a savepoint is itself a query.
            try:
                self._savepoint = self._open()
            finally:
                self._opening = False
        return execute(*arguments)

    @property
    def is_open(self) -> bool:
        """Whether the block sent a query, and so has a savepoint."""
        return self._savepoint is not None

    def _open(self) -> str | None:
        """Open a savepoint; inside a PostgreSQL transaction, in the cheapest way that the driver offers."""
        pipe = getattr(self._connection.connection, "pgconn", None)
        if pipe is None or pipe.pipeline_status or pipe.transaction_status != IN_TRANSACTION:
            if self._lock_patience is not None and self._connection.vendor == "postgresql":
                with self._connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = {1000 * self._lock_patience:.0f}")
            savepoint: str | None = self._connection.savepoint()
            return savepoint
        name = f"guarded_{next(_numbers)}"
        patience = "" if self._lock_patience is None else f"SET LOCAL lock_timeout = {1000 * self._lock_patience:.0f}; "
        with self._connection.wrap_database_errors:
            answer = pipe.exec_(f"{patience}SAVEPOINT {name}".encode())
            if answer.status != COMMAND_OK:
                raise self._connection.Database.errors.error_from_result(answer)
        return name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)
        if self._connection.closed_in_transaction or self._was_spoiled:
            return  # Nothing can be saved any more; the owner of the transaction gets the error.
        if error is not None:
            self._undo()
            return
        if self._is_spoiled():
            self._undo()
            raise SpoiledError("It swallowed an error and left a transaction that cannot be committed.")
        try:
            if self._savepoint is not None and self._releases:
                self._connection.savepoint_commit(self._savepoint)
        except DatabaseError as refused:
            self._undo()
            raise SpoiledError(f"It swallowed an error that had ended its transaction: {refused}") from refused
        self._make_hooks_robust()

    def _is_spoiled(self) -> bool:
        return (
            self._connection.needs_rollback
            or (not self._releases and self._is_aborted())
            or len(self._connection.atomic_blocks) != self._blocks
            or len(self._connection.savepoint_ids) != self._savepoints
        )

    def _is_aborted(self) -> bool:
        """Whether PostgreSQL refuses all further statements, as far as its driver knows."""
        driver = self._connection.connection
        return bool(self._connection.vendor == "postgresql" and driver.info.transaction_status == ABORTED)

    def _undo(self) -> None:
        """Roll the transaction back to the start of the block: its rows, and Django's knowledge of it."""
        del self._connection.atomic_blocks[self._blocks :]
        del self._connection.savepoint_ids[self._savepoints :]
        self._connection.needs_rollback = False
        if self._savepoint is not None:
            try:
                self._connection.savepoint_rollback(self._savepoint)
            except DatabaseError:
                self._connection.needs_rollback = True  # Otherwise the sender would commit whatever is left.
                raise
        del self._connection.run_on_commit[self._hooks :]

    def _make_hooks_robust(self) -> None:
        """Prevent functions that the block registers with on_commit from turning the response into an error."""
        hooks: list[Any] = self._connection.run_on_commit  # A third element says whether its errors are only logged.
        if len(hooks) > self._hooks:
            hooks[self._hooks :] = [(savepoints, call, True) for savepoints, call, _ in hooks[self._hooks :]]


class SpoiledError(Exception):
    """Code swallowed a failure after which its transaction cannot be committed."""
