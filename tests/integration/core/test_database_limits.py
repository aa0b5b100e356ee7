"""Limits that PostgreSQL should enforce for our sessions: missing ones are reported, and can be set permanently."""

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection

from core import database_limits

pytestmark = [pytest.mark.django_db, pytest.mark.postgresql]


def warned():
    return {message.id for message in run_checks(databases=["default"])} & {"core.W011"}


def test_a_limit_that_the_session_was_not_told_is_named(settings, capsys):
    assert warned() == set()
    settings.DATABASE_LIMITS = {"lock_timeout": 5_000}  # As if a pooler had dropped it.
    assert warned() == {"core.W011"}
    with pytest.raises(CommandError, match="lock_timeout"):
        call_command("database_limits")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '7s'")  # Any other value is a choice of the project's.
    assert warned() == set()
    call_command("database_limits")
    assert "lock_timeout = 7000  (wanted: 5000)" in capsys.readouterr().out


def test_a_role_is_told_for_every_session_that_begins(settings):
    settings.DATABASE_LIMITS = {"jit": "off", "of_another_release": "on"}  # What the server does not know is left out.
    call_command("database_limits", "--set", "--web")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase"
            " WHERE datname = current_database() AND setrole = %s::regrole",
            [database_limits.current_role()],
        )
        assert {line for (line,) in cursor.fetchall()} == {"jit=off", "statement_timeout=10000", "lock_timeout=5000"}
