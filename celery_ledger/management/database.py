"""Messages of commands whose database is unavailable."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import CommandError
from django.db import OperationalError

from celery_ledger.databases import connection

logger = logging.getLogger(__name__)

PAUSE = 0.5  # seconds


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """
    Report in one line that the database is unavailable.

    Raises:
        CommandError: an OperationalError was raised within.
    """
    try:
        yield
    except OperationalError as error:
        reason = " ".join(str(error).split())
        raise CommandError(f"The database that the settings (or DATABASE_URL) name cannot be used: {reason}") from None


def wait_while_it_recovers() -> None:
    """
    Connect to the database, waiting while it refuses connections because it is starting or recovering.

    Raises:
        OperationalError: the database cannot be reached or refuses the connection.
    """
    is_told = False
    while True:
        try:
            connection.ensure_connection()
        except OperationalError:
            if not _recovers():
                raise
            if not is_told:
                logger.warning("The database is starting or recovering; waiting for it.")
            is_told = True
            time.sleep(PAUSE)
        else:
            return


def _recovers() -> bool:
    """Whether PostgreSQL refuses connections temporarily. Its messages may be in any language."""
    if connection.vendor != "postgresql":
        return False
    from psycopg.conninfo import make_conninfo
    from psycopg.pq import PGconn, Ping

    where = connection.settings_dict
    place = {"host": where["HOST"], "port": where["PORT"], "user": where["USER"], "dbname": where["NAME"]}
    info = make_conninfo("", connect_timeout=5, **{name: value for name, value in place.items() if value})
    return bool(PGconn.ping(info.encode()) == Ping.REJECT)
