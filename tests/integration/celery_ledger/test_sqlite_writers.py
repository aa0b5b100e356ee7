"""SQLite as ``startproject`` sets it up: the ledger's own processes begin their transactions as writers."""

import sqlite3
from contextlib import closing

import pytest
from django.db.backends.signals import connection_created
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.utils import ConnectionHandler

from celery_ledger import sqlite

pytestmark = pytest.mark.django_db  # Or no database may be connected to at all.


@pytest.fixture
def in_our_process():
    sqlite.write_in_line()
    yield
    connection_created.disconnect(dispatch_uid="celery_ledger.sqlite")


@pytest.fixture
def connect(tmp_path):
    """Return what connects to a database of the test's own, with ``OPTIONS``."""
    opened: list[DatabaseWrapper] = []

    def make(**options):
        settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "own.sqlite3", "OPTIONS": options}
        connection = ConnectionHandler({"default": settings})["default"]
        opened.append(connection)
        connection.ensure_connection()
        return connection

    yield make
    for connection in opened:
        connection.close()


def keeps_writers_out(connection):
    """Whether others cannot write while it is in a transaction that has done nothing yet."""
    connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    try:
        with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0)) as other:
            other.execute("CREATE TABLE something (id)")
    except sqlite3.OperationalError as error:
        assert "locked" in str(error)  # noqa: PT017 - it is the answer
        return True
    finally:
        connection.rollback()
        connection.set_autocommit(True)
    return False


def patience_of(connection):
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        return cursor.fetchone()[0]


def test_a_project_s_own_processes_are_left_alone(connect):
    assert not keeps_writers_out(connect())


def test_ours_write_from_the_start_and_are_patient(in_our_process, connect):
    connection = connect()
    assert keeps_writers_out(connection)
    assert patience_of(connection) == 20_000


def test_what_the_project_says_stands(in_our_process, connect):
    connection = connect(transaction_mode="DEFERRED", timeout=3)
    assert not keeps_writers_out(connection)
    assert patience_of(connection) == 3_000
