"""Statements that share a round trip to the database: between hosts, round trips take longer than the statements."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from psycopg.pq import TransactionStatus


@contextmanager
def one_round_trip() -> Iterator[None]:
    """
    Send the statements of this block together, with the BEGIN of a transaction that they open. PostgreSQL only.

    Each sees what those before it did, as usual. Use a cursor for each, and read their results after the block.
    """
    if connection.vendor != "postgresql":
        yield
        return
    database: Any = connection
    database.ensure_connection()
    driver = database.connection
    begins = database.in_atomic_block and driver.info.transaction_status == TransactionStatus.IDLE
    with database.wrap_database_errors:
        if begins:
            # Otherwise psycopg sends its own BEGIN, and waits for the answer. Django's COMMIT ends this one too.
            driver.autocommit = True
        with driver.pipeline():
            if begins:
                driver.execute("BEGIN")
            yield
