"""
Notification of callers that wait for a result, at no cost to tasks without such a caller.

PostgreSQL: a waiter listens, and holds a shared advisory lock on the task's id. The statement that records how the task
ended tries to take that lock exclusively. If it cannot, a caller is waiting, and it notifies on commit. If it can, it
holds the lock until the commit, so a caller that begins to wait meanwhile cannot share it and looks again at once. None
of this is relied on: a lost notification costs only the time until the next look.

Behind a pooler, where sessions are shared, the waiter looks twenty times a second; on SQLite, without notifications,
after each commit, which it checks for every 10 ms.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import Any, Protocol

from celery import states
from django.db import DatabaseError, InterfaceError, OperationalError, connections

from celery_ledger import databases
from celery_ledger.databases import connection
from celery_ledger.ids import row_id
from celery_ledger.relay.wakeup import POOLED_INTERVAL, SQLiteDoorbell
from celery_ledger.rows import homes
from celery_ledger.rows.sql import RESULTS_CHANNEL, WAITING_LOCKS
from celery_ledger.trips import is_pooled

#: Seconds after which a waiter looks again even without a notification.
LOOK_AGAIN = 1.0
#: The pause while the task is about to end.
SHORT = 0.005
#: Seconds after which a waiter that lost its database tries again.
PAUSE = 0.2


class Bell(Protocol):
    """The means to wake a waiting caller."""

    def wait(self, seconds: float) -> None:
        """Return when the task may have ended, at the latest after ``seconds``."""


class _Listener:
    """On PostgreSQL: a session of the caller's own that listens."""

    def __init__(self, session: Any, id: str) -> None:
        self._session = session
        self._id = id
        self._is_seen = False
        self._ask(f"LISTEN {RESULTS_CHANNEL}")
        self._share()

    def wait(self, seconds: float) -> None:
        if not self._is_seen:
            sleep(min(SHORT, max(0.0, seconds)))
            self._share()
            return
        deadline = monotonic() + min(seconds, LOOK_AGAIN)
        with self._session.wrap_database_errors:
            while (left := deadline - monotonic()) > 0:
                for notification in self._session.connection.notifies(timeout=left, stop_after=1):
                    if self._id in notification.payload:
                        return

    def leave(self) -> None:
        """Restore the session in one round trip: the result is there, and its caller is waiting."""
        unlock = f"PERFORM pg_advisory_unlock_shared({WAITING_LOCKS}, hashtext('{self._id}'));" if self._is_seen else ""
        self._ask(f"DO $$ BEGIN {unlock} UNLISTEN {RESULTS_CHANNEL}; END $$")

    def _share(self) -> None:
        """Become visible to the process that ends the task; if it holds the exclusive lock, the end is imminent."""
        self._is_seen = self._ask(f"SELECT pg_try_advisory_lock_shared({WAITING_LOCKS}, hashtext(%s))", self._id)

    def _ask(self, sql: str, *parameters: str) -> Any:
        with self._session.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchone()[0] if cursor.description else None


class _Pooled:
    """Behind a pooler: polling."""

    def wait(self, seconds: float) -> None:
        sleep(min(POOLED_INTERVAL, max(0.0, seconds)))


class _SQLite:
    """On SQLite: polling for commits."""

    def __init__(self) -> None:
        self._doorbell = SQLiteDoorbell()

    def wait(self, seconds: float) -> None:
        self._doorbell.wait(min(seconds, LOOK_AGAIN), lambda: True)


@contextmanager
def bell_of(id: str) -> Iterator[Bell]:
    """
    Provide the bell that rings when the task with this id may have ended.

    It listens on the thread's own connection, or, within a transaction, where no notification arrives, on another one.
    """
    if connection.vendor != "postgresql":
        yield _SQLite()
        return
    if is_pooled():
        yield _Pooled()
        return
    own = connections.create_connection(connection.alias) if connection.in_atomic_block else None
    try:
        listener = _Listener(own or connection, id)
        try:
            yield listener
        finally:
            with suppress(DatabaseError):  # A lost session no longer listens, and holds no lock.
                listener.leave()
    finally:
        if own is not None:
            own.close()


def wait_for(
    backend: Any,
    task_id: Any,
    timeout: float | None,
    *,
    longest: float,
    on_interval: Callable[[], Any] | None,
) -> Any:
    """
    Return what ``backend`` says of a task once it has ended: on PostgreSQL, right after the commit.

    Looks at least every ``longest`` seconds. A database that is away is tried again until the time is over.

    Raises:
        celery.exceptions.TimeoutError: the task did not end within ``timeout`` seconds.
    """
    backend._ensure_not_eager()
    deadline = monotonic() + timeout if timeout else float("inf")

    def answer() -> Any:
        meta = backend.get_task_meta(task_id)
        if meta["status"] in states.READY_STATES:
            return meta
        if on_interval:
            on_interval()
        return None

    while True:
        try:
            if meta := answer():
                return meta
            id = row_id(task_id)
            with databases.using(homes.of(id)), bell_of(str(id)) as bell:
                while not (meta := answer()):
                    if monotonic() >= deadline:
                        raise backend.TimeoutError("The operation timed out.")
                    bell.wait(min(longest, deadline - monotonic()))
                return meta
        except (OperationalError, InterfaceError):
            if monotonic() >= deadline or connection.in_atomic_block:
                raise
            connection.close()
            sleep(PAUSE)
