"""
Whether PostgreSQL can confirm commits: a server configured to wait for a missing standby waits forever.

Such a commit is neither lost nor done: it is on the primary's disk, but the client receives no answer.
"""

from celery_ledger.databases import connection

__all__ = ["missing_standby"]

#: A commit that waits for longer than this, in seconds, waits for a standby that is away.
PATIENCE = 3.0
#: A user without permission to see details of the replication still sees that it exists.
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
    """Return a message about a primary whose commits wait for a missing standby; empty if none wait."""
    if connection.vendor != "postgresql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute(_ASK, [PATIENCE])
        [(names, is_local, is_there, waiting)] = cursor.fetchall()
    if not names or is_local or (is_there and not waiting):
        return ""
    return f"commits wait for a synchronous standby ({names}): {waiting} at the moment"
