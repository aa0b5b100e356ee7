"""
The planner's statistics of the ledger's tables while they are new, on PostgreSQL.

A plan that was made while a table was small reads all of it, and a prepared statement keeps its plan until the table is
analyzed. Autovacuum does that, but not in the first minute, and not where it is turned off; until then, each task would
take longer than the one before.
"""

from django.apps import apps
from django.db.models import Model

from celery_ledger.databases import connection

#: Seconds between two checks of the tables' sizes.
EVERY = 1.0

# The relay's role may have no right to analyze a table, and PostgreSQL would log a warning each time. No table is
# analyzed often: when it has five times its last size, and never once it is too large for a plan that reads all of it.
_OUTGROWN = """
    SELECT relname FROM pg_class
    WHERE oid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)
      AND relpages < 1000 AND pg_relation_size(oid) > (5 * relpages + 8) * current_setting('block_size')::bigint
      AND pg_has_role(relowner, 'USAGE')
"""


def keep() -> None:
    """Analyze those of the ledger's tables that have outgrown what the planner knows of them."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(_OUTGROWN, [[model._meta.db_table for model in _models()]])
        for (table,) in cursor.fetchall():
            cursor.execute(f"ANALYZE (SKIP_LOCKED) {connection.ops.quote_name(table)}")


def _models() -> list[type[Model]]:
    return list(apps.get_app_config("celery_ledger").get_models())
