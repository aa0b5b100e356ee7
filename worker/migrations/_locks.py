"""Locks on tables that processes at work use: had all at once, or not waited for."""

import time
from collections.abc import Iterable

from django.db import OperationalError, migrations, transaction

#: Milliseconds that one try waits. Meanwhile all who come later wait behind it; below PostgreSQL's own second, after
#: which it ends one of those who wait for each other, and that might be a task.
ONE_TRY = 500
#: Seconds between two tries, and until the last.
PAUSE, PATIENCE = 1.0, 300.0


def lock(schema_editor, tables: Iterable[str]) -> None:
    """
    Keep everybody else from ``tables`` until the migration's transaction ends.

    Raises:
        OperationalError: a session held one of them for all of five minutes, such as a backup. Nothing is changed:
            migrate again.
    """
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    names = ", ".join(map(schema_editor.quote_name, tables))
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with transaction.atomic(connection.alias), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {ONE_TRY}")
                cursor.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)
        else:
            return


def locked(*tables: str) -> migrations.RunPython:
    """Return an operation that locks ``tables`` for those that follow it."""
    return migrations.RunPython(lambda apps, schema_editor: lock(schema_editor, tables), migrations.RunPython.noop)
