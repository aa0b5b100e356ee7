"""A command whose reader has gone ends quietly."""

import subprocess
import sys

from tests.processes import ROOT

TALK = """
import sys
from celery_ledger.management.pipes import unheard_from_here_on
with unheard_from_here_on():
    for number in range(200_000):
        sys.stdout.write(f"{number}\\n")
"""


def test_a_reader_that_goes_leaves_no_traceback():
    command = subprocess.Popen(
        [sys.executable, "-c", TALK], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout.readline() == "0\n"
    command.stdout.close()
    assert command.stderr.read() == ""
    assert command.wait(timeout=60) == 141
    command.stderr.close()
