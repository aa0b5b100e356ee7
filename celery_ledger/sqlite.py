"""
SQLite in relays and workers: their transactions start as writers and queue for the lock.

A transaction that reads and then writes fails at once with "database is locked" if another has written meanwhile. A
project can override this with ``transaction_mode`` and ``timeout`` in its ``OPTIONS``; its own processes are not
changed.
"""

from typing import Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from celery_ledger.databases import connection

#: Seconds that a writer waits for others, unless the project sets it.
PATIENCE: Final = 20


def write_in_line() -> None:
    """Make each SQLite connection of this process start its transactions as a writer."""
    connection_created.connect(_begin_as_writer, dispatch_uid="celery_ledger.sqlite")
    for each in connections.all(initialized_only=True):
        if each.connection is not None:
            _begin_as_writer(each)


def write_first() -> None:
    """Make the current SQLite transaction a writer before it reads, in any process; do nothing on other databases."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("UPDATE celery_ledger_durabletask SET lapses = lapses WHERE false")


def _begin_as_writer(connection: BaseDatabaseWrapper, **_: object) -> None:
    if connection.vendor != "sqlite":
        return
    options = connection.settings_dict["OPTIONS"]
    if "transaction_mode" not in options:
        vars(connection)["transaction_mode"] = "IMMEDIATE"
    if "timeout" not in options:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000}")
