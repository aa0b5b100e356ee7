"""How processes refuse to start: with one sentence that says what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

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
