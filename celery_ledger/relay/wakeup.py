"""
How a sleeping relay learns that something was enqueued, at no cost to the process that enqueues.

PostgreSQL: a relay that goes to sleep takes an exclusive advisory lock and listens. A process that enqueues
tries to share that lock, in the INSERT itself. If it gets the lock, some relay is awake and will check for work. If
not, the INSERT sends a NOTIFY with its commit that names the due rows: the relay publishes them while it claims them,
and stays asleep. A transaction that shared the lock holds it until its end, so a relay cannot fall asleep while a
commit that did not wake it is still to come, and it checks once more after acquiring the lock.

Behind a pooler sessions are shared: a lock or a LISTEN would stay with another client. The relay detects this and
polls twenty times a second instead.

SQLite: the database counts its commits (``PRAGMA data_version``); the relay compares the count every 10 ms.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from celery_ledger.databases import connection
from celery_ledger.rows import ledger
from celery_ledger.rows.sql import ASLEEP_LOCK, OLD_ROWS, WAKE_CHANNEL
from celery_ledger.trips import is_pooled

logger = logging.getLogger(__name__)

#: Held by the only relay that may take ASLEEP_LOCK; the others check once a second.
SLEEPER_LOCK = 4_915_003
POLL_INTERVAL = 0.010  # seconds, SQLite
POOLED_INTERVAL = 0.050  # seconds, behind a pooler
#: Up to this many simultaneous notifications of commits let a relay stay asleep.
MOST_NEWS = 3


#: Called with the rows that a notification names; returns whether all are handled, so that the relay can stay asleep.
Told = Callable[[list[ledger.Claimed]], bool]


class Doorbell(Protocol):
    """What wakes a relay."""

    def wait(self, seconds: float, work_is_due: Callable[[], bool], told: Told) -> bool:
        """
        Return when something that ``told`` did not handle may have been enqueued, or after ``seconds``.

        True: rows that became due earlier may be pending again.
        """


class PostgreSQLDoorbell:
    """A doorbell based on an advisory lock; behind a pooler, it polls instead."""

    def __init__(self) -> None:
        self._connected_to: object = None
        self._is_pooled = False
        self._is_sleeper = False

    def wait(self, seconds: float, work_is_due: Callable[[], bool], told: Told) -> bool:
        self._connect()
        if self._is_pooled:
            deadline = time.monotonic() + seconds
            while not work_is_due() and time.monotonic() < deadline:
                time.sleep(min(POOLED_INTERVAL, max(0.0, deadline - time.monotonic())))
            return False
        if not self._is_sleeper:
            self._is_sleeper = self._query(f"SELECT pg_try_advisory_lock({SLEEPER_LOCK})")
        if not self._is_sleeper:
            return self._sleep(seconds, lambda _: True)  # The sleeper receives the same notifications.
        pause = 0.001
        deadline = time.monotonic() + seconds
        while not self._query(f"SELECT pg_try_advisory_lock({ASLEEP_LOCK})"):
            # A transaction that saw us awake has not committed yet.
            time.sleep(pause)
            pause = min(pause * 2, 0.020)
            if work_is_due() or time.monotonic() > deadline:
                return False
        try:
            return self._forget_news() or (not work_is_due() and self._sleep(seconds, told))
        finally:
            self._query(f"SELECT pg_advisory_unlock({ASLEEP_LOCK})")

    def _connect(self) -> None:
        """Listen on the current connection, which is new after an outage of the database."""
        connection.ensure_connection()
        if self._connected_to is not connection.connection:
            self._is_sleeper = False
            self._is_pooled = is_pooled()
            if self._is_pooled:
                logger.info("The database is behind a pooler: the relay polls every %g s.", POOLED_INTERVAL)
            else:
                with connection.cursor() as cursor:
                    cursor.execute(f"LISTEN {WAKE_CHANNEL}")
            self._connected_to = connection.connection

    def _sleep(self, seconds: float, told: Told) -> bool:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with connection.wrap_database_errors:  # Callers do not catch psycopg's own errors.
                news = [notify.payload for notify in connection.connection.notifies(timeout=left, stop_after=1)]
            if OLD_ROWS in news:
                return True
            # Several at a time are a load, which a turn handles better.
            if (
                not news
                or len(news) > MOST_NEWS
                or not all(news)
                or not told([row for words in news for row in _read(words)])
            ):
                return False
        return False

    def _forget_news(self) -> bool:
        """
        Drop pending notifications: the next check finds those rows, and a turn may have published them already.

        True: that check may miss rows that became due earlier and are pending again.
        """
        with connection.wrap_database_errors:
            return OLD_ROWS in [notify.payload for notify in connection.connection.notifies(timeout=0)]

    def _query(self, sql: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return bool(cursor.fetchone()[0])


def _read(words: str) -> list[ledger.Claimed]:
    return [ledger.Claimed(UUID(id), name, queue, 0, priority) for id, name, queue, priority in json.loads(words)]


class SQLiteDoorbell:
    """Checks for commits since the last check."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def wait(self, seconds: float, work_is_due: Callable[[], bool], told: Told | None = None) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA data_version")
                version = cursor.fetchone()[0]
            if version != self._seen:
                self._seen = version
                if work_is_due():
                    return False
            time.sleep(POLL_INTERVAL)
        return False


def doorbell() -> Doorbell:
    """Return the doorbell of the database in use."""
    return PostgreSQLDoorbell() if connection.vendor == "postgresql" else SQLiteDoorbell()
