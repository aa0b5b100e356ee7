"""Locks on tables in use: taken all at once, or not waited for."""

import time
from collections.abc import Iterable

from django.db import OperationalError, migrations, transaction

#: Milliseconds that one attempt waits. Later sessions queue behind it, so this is shorter than PostgreSQL's deadlock
#: timeout of a second, after which it would cancel a session in a deadlock, perhaps a task.
ONE_TRY = 500
#: Seconds between two attempts, and until the last.
PAUSE, PATIENCE = 1.0, 300.0


def lock(schema_editor, tables: Iterable[str]) -> None:
    """
    Lock ``tables`` exclusively until the migration's transaction ends.

    Raises:
        OperationalError: a session, such as a backup, held one of them for five minutes. Nothing is changed: migrate
            again.
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
