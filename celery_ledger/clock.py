"""The database's clock, which the ledger uses instead of the local one."""

from datetime import datetime

from django.utils import timezone

from celery_ledger.databases import connection

__all__ = ["now", "skew"]


def now() -> datetime:
    """Return the database's time. SQLite uses the local clock."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def skew() -> float:
    """Return how many seconds the local clock is ahead of the database's, not counting the query's own time."""
    before = timezone.now()
    theirs = now()
    after = timezone.now()
    return (before + (after - before) / 2 - theirs).total_seconds()
