"""
Fewer round trips to PostgreSQL, and less planning there, for the ledger's own statements.

Over a network, a round trip costs more than most statements: what can be sent together is. On loopback, planning costs
more than running most of them, so a connection that is used often has them planned once, whatever the project's own
settings are; behind a pooler, which may give the next statement to another session, it does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.db import connections

from celery_ledger.databases import current

__all__ = ["in_one_trip", "is_pooled", "planned", "with_the_begin", "with_the_commit"]

#: After this many statements, it pays to ask whether a connection is direct.
OFTEN: Final = 10
#: How often a statement is run until it is prepared.
THRESHOLD: Final = 2
#: libpq's status of a connection without a transaction.
IDLE: Final = 0

#: How many statements each driver's connection has run, until it is known whether it keeps prepared ones.
_uses: "WeakKeyDictionary[Any, int]" = WeakKeyDictionary()
_keeps: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()


@contextmanager
def planned() -> Iterator[Any]:
    """
    Provide a cursor for statements that this process runs often.

    On a connection of its own, PostgreSQL plans each of them once.
    """
    database = connections[current()]
    if not _keeps_statements(database):
        with database.cursor() as cursor:
            yield cursor
        return
    from django.db.backends.postgresql.base import ServerBindingCursor

    driver = database.connection
    before = driver.cursor_factory, driver.prepare_threshold
    driver.cursor_factory, driver.prepare_threshold = ServerBindingCursor, THRESHOLD
    try:
        with database.cursor() as cursor:
            yield cursor
    finally:
        driver.cursor_factory, driver.prepare_threshold = before


def _keeps_statements(database: Any) -> bool:
    """Whether to prepare statements: on a direct connection that is used often and does not prepare all of them."""
    driver = database.connection
    if database.vendor != "postgresql" or driver is None or driver.prepare_threshold is not None:
        return False
    known = _keeps.get(driver)
    if known is None:
        uses = _uses[driver] = _uses.get(driver, 0) + 1
        if uses < OFTEN or driver.pgconn.pipeline_status:
            return False
        is_told_otherwise = database.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        known = _keeps[driver] = not is_told_otherwise and not is_pooled()
    return known


def is_pooled() -> bool:
    """Whether a pooler is between this process and PostgreSQL: the backend that answers is not the one connected to."""
    database = connections[current()]
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return bool(cursor.fetchone()[0] != database.connection.info.backend_pid)


@contextmanager
def in_one_trip() -> Iterator[None]:
    """
    Send all statements of this block together, and the ``BEGIN`` before them; on PostgreSQL.

    Nothing is known of them before its end: read their cursors after it. Errors are raised there too.
    """
    database = connections[current()]
    if database.vendor != "postgresql":
        yield
        return
    database.ensure_connection()
    driver = database.connection
    with database.wrap_database_errors:
        begins = _would_begin_by_itself(driver)
        with driver.pipeline() as pipeline:
            if begins:
                # The driver would send its own and wait for the answer. A transaction that is open already needs none.
                driver.pgconn.send_query_params(b"BEGIN", None)
                pipeline.result_queue.append(None)
            yield


def _would_begin_by_itself(driver: Any) -> bool:
    """Whether the driver's next statement is preceded by a plain ``BEGIN``."""
    is_plain = driver.isolation_level is driver.read_only is driver.deferrable is None
    return is_plain and not driver.autocommit and driver.pgconn.transaction_status == IDLE


@contextmanager
def with_the_begin() -> Iterator[None]:
    """Send a transaction's first statement together with its ``BEGIN``; as :func:`in_one_trip`, on PostgreSQL."""
    database = connections[current()]
    driver = database.connection
    begins = database.vendor == "postgresql" and driver is not None and _would_begin_by_itself(driver)
    with in_one_trip() if begins else nullcontext():
        yield


@contextmanager
def with_the_commit() -> Iterator[None]:
    """
    Send the last statements of a transaction together with its ``COMMIT``; on PostgreSQL.

    Only at the end of the block that the transaction belongs to: nothing after it is a part of that. Within a
    transaction of the caller's, or if that is to be rolled back, nothing is committed.
    """
    database = connections[current()]
    with in_one_trip():
        yield
        is_outermost = len(database.atomic_blocks) == 1 and not database.savepoint_ids
        if database.vendor == "postgresql" and is_outermost and not database.needs_rollback:
            database.connection.execute("COMMIT")
