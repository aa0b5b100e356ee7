"""The database's clock, which the ledger uses instead of this machine's."""

from datetime import datetime

from django.db import connection
from django.utils import timezone

__all__ = ["now", "skew"]


def now() -> datetime:
    """Return the database's time. SQLite has none but this machine's."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def skew() -> float:
    """Return by how many seconds this machine's clock is ahead of the database's, apart from the time of a query."""
    before = timezone.now()
    theirs = now()
    after = timezone.now()
    return (before + (after - before) / 2 - theirs).total_seconds()
