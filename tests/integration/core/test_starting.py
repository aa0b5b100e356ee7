"""How processes refuse to start: with one sentence that says what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import database_url

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.processes


def start(*command, **variables):
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "DEBUG": "1", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [["serve"], ["seed_demo"], ["relay"], ["outbox", "stats"]], ids=" ".join)
def test_without_its_database_a_command_says_so_in_one_line(command):
    ended = start("manage.py", *command, DATABASE_URL="postgres://nobody:hidden@127.0.0.1:1/none")
    assert ended.returncode == 1
    assert "DATABASE_URL" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "hidden" not in ended.stderr


@pytest.mark.parametrize("credentials", ["", "somebody", "somebody:", ":secret", "a:b,c"])
def test_flower_does_not_start_without_a_password(credentials):
    ended = start("-m", "celery", "-A", "worker", "flower", FLOWER_BASIC_AUTH=credentials)
    assert ended.returncode == 1
    assert "FLOWER_BASIC_AUTH" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.fault("F90")
@pytest.mark.postgresql
@pytest.mark.django_db
def test_f90_what_the_database_s_url_asks_for_reaches_the_server_beside_ours():
    url = f"{database_url()}?application_name=till&options=-c%20work_mem%3D5MB"
    ask = "from django.db import connection; cursor = connection.cursor()\n"
    ask += "for name in ('application_name', 'work_mem', 'jit'): print(cursor.execute(f'SHOW {name}').fetchone()[0])"
    told = start("manage.py", "shell", "--no-imports", "-c", ask, DATABASE_URL=url)
    assert told.stdout.split() == ["till", "5MB", "off"], told.stderr
    ended = start("manage.py", "outbox", "stats", DATABASE_URL=f"{database_url()}?target_session_attrs=standby")
    assert ended.returncode == 1
    assert "standby" in ended.stderr


def test_a_python_without_django_is_told_which_one_has_it():
    ended = start("-S", "manage.py", "doctor")  # -S: as a Python that nothing was installed for.
    assert ended.returncode == 1
    assert ".venv/bin/python manage.py doctor" in ended.stderr
    assert "Traceback" not in ended.stderr
