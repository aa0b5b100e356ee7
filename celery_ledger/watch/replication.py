"""
Whether PostgreSQL can confirm what is committed: one that is told to wait for a standby waits forever.

Such a commit is neither lost nor done: it is on the primary's disk, and the client hears nothing.
"""

from django.db import connection

__all__ = ["missing_standby"]

#: A commit that waits for longer waits for a standby that is away, in seconds.
PATIENCE = 3.0
#: Who may not see of others' replication how it is sees that it is.
_ASK = """
    SELECT
        current_setting('synchronous_standby_names'),
        current_setting('synchronous_commit') IN ('off', 'local'),
        EXISTS (
            SELECT 1 FROM pg_stat_replication
            WHERE coalesce(state, 'streaming') = 'streaming' AND coalesce(sync_state, 'sync') IN ('sync', 'quorum')
        ),
        (
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'SyncRep'
              AND state_change < clock_timestamp() - %s * interval '1 second'
        )
"""


def missing_standby() -> str:
    """Return what is said of a primary whose commits wait for a standby that is away; nothing if none does."""
    if connection.vendor != "postgresql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute(_ASK, [PATIENCE])
        [(names, is_local, is_there, waiting)] = cursor.fetchall()
    if not names or is_local or (is_there and not waiting):
        return ""
    return f"commits wait for a synchronous standby ({names}): {waiting} at the moment"
