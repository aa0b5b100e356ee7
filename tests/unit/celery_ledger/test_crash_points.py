"""Where and when a process kills itself."""

import os
import signal
import subprocess
import sys

import pytest

from celery_ledger import faults
from tests.processes import ROOT


@pytest.fixture
def kills(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_the_third_passing_of_the_place_that_is_named_kills_and_no_other(monkeypatch, kills):
    monkeypatch.setattr(faults, "_place", "relay.after_claim")
    monkeypatch.setattr(faults, "_left", 3)
    faults.crash_point("relay.after_claim")
    faults.crash_point("relay.after_publish")
    faults.crash_point("relay.after_claim")
    assert kills == []
    faults.crash_point("relay.after_claim")
    assert kills == [(os.getpid(), signal.SIGKILL)]


def test_unarmed_no_place_kills(monkeypatch, kills):
    monkeypatch.setattr(faults, "_place", "")
    faults.crash_point("relay.after_claim")
    assert kills == []


@pytest.mark.parametrize(
    "value", ["1", "yes", "a:b", "segmentation:fault", "relay.after_claim:x", "relay.after_claim:0", ":"]
)
def test_a_variable_of_somebody_elses_means_nothing_and_ends_no_start(value):
    done = subprocess.run(
        [sys.executable, "-c", "from celery_ledger import faults; print(repr(faults._place), faults.armed())"],
        cwd=ROOT,
        env={**os.environ, "FAULT": value},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "'' None\n", done.stderr
