"""Fixtures of the drills: the servers of the fault tests, and output of figures."""

import subprocess

import pytest

from tests.faults.conftest import mail_server, own_postgresql

__all__ = ["mail_server", "own_postgresql", "say"]


@pytest.fixture
def say(request):
    """Print a figure of this drill, with the commit that it is of."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)

    def line(text: str) -> None:
        print(f"\n{request.node.name} ({commit.stdout.strip()}): {text}", flush=True)

    return line
