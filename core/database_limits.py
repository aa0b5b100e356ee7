"""
Limits for our sessions (``DATABASE_LIMITS``) in PostgreSQL: reading them, and storing them in a role.

Without a pooler, each session sets them when it begins. Behind a pooler in transaction mode the next statement may run
in a different session, so there the role is given the limits, in our database, and every new session of that role has
them.
"""

from collections.abc import Mapping
from typing import Final

from django.conf import settings
from django.db import connection

#: How PostgreSQL writes "no limit".
NONE: Final = frozenset({"0", "on"})


def present() -> dict[str, str]:
    """Return the current session's value of each limit that the server knows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(settings.DATABASE_LIMITS)])
        return dict(cursor.fetchall())


def lacking() -> list[str]:
    """Return the limits that are not set in the current session; a different value counts as a choice."""
    if connection.vendor != "postgresql":
        return []
    return sorted(name for name, value in present().items() if value in NONE)


def tell(role: str, limits: Mapping[str, int | str]) -> None:
    """Store ``limits`` for ``role`` in this database; open sessions are not affected."""
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_settings WHERE name = ANY(%s)", [list(limits)])
        for (name,) in cursor.fetchall():
            place = f"ALTER ROLE {quote(role)} IN DATABASE {quote(connection.settings_dict['NAME'])}"
            cursor.execute(f"{place} SET {quote(name)} = '{limits[name]}'")


def current_role() -> str:
    """Return the role with which this process connects."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])
