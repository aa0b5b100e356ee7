"""
Disconnects requests from a database that is silent or gone; used by the web process, on PostgreSQL.

A reachable server ends a long statement itself (``statement_timeout``). But if the network silently drops packets,
libpq waits for as long as the system's TCP does. So a thread looks at the connections once a second, and cuts those
that have waited too long for one answer.

A server that ends a session says so at once, but the message would be read only by the next request, which would fail.
:func:`part_with_the_dead` reads it first, which costs no round trip.
"""

import logging
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from psycopg.pq import TransactionStatus

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0  # seconds

#: What a server reports about itself when a session begins.
READ_ONLY_PARAMETERS: Final = (b"default_transaction_read_only", b"in_hot_standby")

#: The watched connections: all that this process ever opened.
_lines: list["Line"] = []


def part_with_the_dead() -> None:
    """
    Close this thread's connection if its server sent something unasked, which can only be its end.

    This includes a connection to a server that accepts no writes, because another server may have taken its place. To
    be called before the first statement, which then opens a new connection.
    """
    for wrapper in connections.all(initialized_only=True):
        raw: Any = wrapper.connection
        if wrapper.vendor != "postgresql" or raw is None or wrapper.in_atomic_block:
            continue
        if raw.closed or _has_something_to_say(raw) or _takes_no_writes(raw):
            wrapper.close()


def _has_something_to_say(raw: Any) -> bool:
    listener = select.poll()  # Not select(): a process with a thousand streams has higher numbers.
    listener.register(raw.pgconn.socket, select.POLLIN)
    return bool(listener.poll(0))


def _takes_no_writes(raw: Any) -> bool:
    """Whether the server reported read-only when the session started, as PostgreSQL does from version 14 on."""
    return any(raw.pgconn.parameter_status(name) == b"on" for name in READ_ONLY_PARAMETERS)


def leave_all() -> None:
    """Make all threads of this process close their connections after, or before, their next request."""
    for line in _lines:
        if wrapper := line.wrapper():
            wrapper.close_at = 0.0


def waiting_for(seconds: float) -> int:
    """Return how many connections of this process have waited this long for one answer."""
    since = time.monotonic() - seconds
    return sum(1 for line in list(_lines) if line.waits_since is not None and line.waits_since <= since)


class SilenceWatch(threading.Thread):
    """Cuts database connections of this process that wait ``limit`` seconds for an answer: the request fails."""

    def __init__(self, *, limit: float) -> None:
        super().__init__(name="silence watch", daemon=True)
        self.limit = limit
        connection_created.connect(self._watch, dispatch_uid="core.silence_watch")

    def run(self) -> None:
        """Check once a second for as long as the process lives."""
        while True:
            time.sleep(LOOK_EVERY)
            for line in list(_lines):
                if line.wrapper() is None:
                    _lines.remove(line)
                else:
                    line.look(self.limit)

    def _watch(self, connection: BaseDatabaseWrapper, **_: object) -> None:
        """A thread opened or replaced its connection."""
        if connection.vendor == "postgresql" and all(line.wrapper() is not connection for line in _lines):
            _lines.append(Line(connection))


class Line:
    """One thread's connection to the database, as the watch sees it: its statements, and its silence."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.wrapper = weakref.ref(connection)
        self.statements = 0
        self._waits_for: int | None = None
        self._since = 0.0
        connection.execute_wrappers.append(self._count)

    @property
    def waits_since(self) -> float | None:
        """When the current wait for an answer was first seen; None: it is not waiting."""
        return None if self._waits_for is None else self._since

    def _count(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        self.statements += 1
        return execute(*arguments)

    def look(self, limit: float) -> None:
        """Cut the connection if a statement, or the commit after it, is unanswered for ``limit`` seconds."""
        wrapper = self.wrapper()
        connection: Any = wrapper and wrapper.connection
        if connection is None or connection.closed or not _is_waiting(connection):
            self._waits_for = None
        elif self._waits_for != self.statements:
            self._waits_for, self._since = self.statements, time.monotonic()
        elif time.monotonic() - self._since > limit:
            logger.error("The database has not answered for %g s; its connection has been closed.", limit)
            self._waits_for = None
            with socket.socket(fileno=os.dup(connection.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)


def _is_waiting(connection: Any) -> bool:
    return bool(connection.pgconn.transaction_status == TransactionStatus.ACTIVE)
