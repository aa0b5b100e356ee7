"""Where and when a process kills itself."""

import os
import signal

import pytest

from worker import faults


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
