"""
Ends a request's wait for a database that has fallen silent; used by the web process, on PostgreSQL.

A server that is reached ends a long statement itself (``statement_timeout``). A network that swallows what
is sent says nothing at all, and libpq waits for as long as the system's TCP does. Here a thread looks at
the connections once a second, and cuts those that have waited for one answer too long.
"""

import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from psycopg.pq import TransactionStatus

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0  # seconds


class SilenceWatch(threading.Thread):
    """Cuts each database connection of this process that waits ``limit`` seconds for one answer: its request fails."""

    def __init__(self, *, limit: float) -> None:
        super().__init__(name="silence watch", daemon=True)
        self.limit = limit
        self._lines: list[Line] = []
        connection_created.connect(self._watch, dispatch_uid="core.silence_watch")

    def run(self) -> None:
        """Look once a second, for as long as the process lives."""
        while True:
            time.sleep(LOOK_EVERY)
            for line in list(self._lines):
                if line.wrapper() is None:
                    self._lines.remove(line)
                else:
                    line.look(self.limit)

    def _watch(self, connection: BaseDatabaseWrapper, **_: object) -> None:
        """A thread opened its connection, or another one in its place."""
        if connection.vendor == "postgresql" and all(line.wrapper() is not connection for line in self._lines):
            self._lines.append(Line(connection))


class Line:
    """One thread's connection to the database, as the watch sees it: how many statements it had, and its silence."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.wrapper = weakref.ref(connection)
        self.statements = 0
        self._waits_for: int | None = None
        self._since = 0.0
        connection.execute_wrappers.append(self._count)

    def _count(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        self.statements += 1
        return execute(*arguments)

    def look(self, limit: float) -> None:
        """Cut the connection if the same statement, or the commit after it, is unanswered for ``limit`` seconds."""
        wrapper = self.wrapper()
        connection: Any = wrapper and wrapper.connection
        if connection is None or connection.closed or not _is_waiting(connection):
            self._waits_for = None
        elif self._waits_for != self.statements:
            self._waits_for, self._since = self.statements, time.monotonic()
        elif time.monotonic() - self._since > limit:
            logger.error("The database has not answered for %g s; its connection is cut.", limit)
            self._waits_for = None
            with socket.socket(fileno=os.dup(connection.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)


def _is_waiting(connection: Any) -> bool:
    return bool(connection.pgconn.transaction_status == TransactionStatus.ACTIVE)
