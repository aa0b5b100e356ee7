"""The supervisor, with small processes of its own."""

import os
import signal
import sys
import time
from contextlib import closing

import psutil
import pytest

from launcher import supervisor as module
from launcher.supervisor import Program, Supervisor

pytestmark = pytest.mark.processes

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def python(name, script):
    return Program(name, [sys.executable, "-c", script], lambda said: bool(said.strip()))


@pytest.fixture
def supervisor(tmp_path):
    made = Supervisor(tmp_path)
    made.close = made.stop
    with closing(made):
        yield made


def until(supervisor, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "It did not happen in time."
        supervisor.tick(0.02)


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_killed_process_is_started_again_and_said_aloud(supervisor, capsys):
    child = supervisor.start(python("sleeper", SLEEPER))
    until(supervisor, child.answers)
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: child.process and child.process.pid != first and child.answers())
    said = capsys.readouterr().out
    assert "sleeper was killed by SIGKILL" in said
    assert "sleeper is started again." in said


def test_one_that_dies_again_and_again_waits_longer_each_time(supervisor, monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(module, "LONGEST_DELAY", 0.08)
    delays = []
    monkeypatch.setattr(module, "say", lambda text: "starts again in" in text and delays.append(text.split()[-5]))
    child = supervisor.start(python("broken", "raise SystemExit(3)"))
    until(supervisor, lambda: child.deaths == 5)
    assert child.start_at - time.monotonic() <= 0.08
    assert delays == sorted(delays)


def test_a_healthy_while_makes_earlier_deaths_forgotten(supervisor, monkeypatch):
    child = supervisor.start(python("sleeper", SLEEPER))
    until(supervisor, child.answers)
    child.deaths = 6
    monkeypatch.setattr(module, "HEALTHY_AFTER", 0.0)
    os.kill(child.process.pid, signal.SIGKILL)
    until(supervisor, lambda: child.deaths == 1)


def test_the_last_words_of_a_process_that_failed_are_shown(supervisor, capsys):
    child = supervisor.start(python("broken", "raise SystemExit('The sea is closed.')"))
    until(supervisor, lambda: child.deaths == 1)
    assert "    The sea is closed." in capsys.readouterr().out


def test_a_command_that_is_not_there_is_tried_again_instead_of_ending_the_rest(supervisor, capsys):
    child = supervisor.start(Program("absent", ["/nowhere/at-all"], lambda _: True))
    until(supervisor, lambda: child.deaths == 1)
    assert "absent cannot be started" in capsys.readouterr().out


def test_stop_kills_a_straggler_and_its_children(supervisor, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    child = supervisor.start(python("stubborn", STUBBORN))
    until(supervisor, child.answers)
    leader, grandchild = child.process.pid, int(child.output())
    supervisor.stop()
    assert gone(leader)
    # Nobody here can wait for a grandchild: it has its signal, and dies in a moment of its own.
    until(supervisor, lambda: gone(grandchild))


def test_what_others_need_is_ended_last(supervisor, tmp_path):
    goodbye = f"""
import pathlib, signal, sys, time
def bye(*_):
    with open({str(tmp_path / "order")!r}, "a") as order: order.write(sys.argv[1] + " ")
    sys.exit()
signal.signal(signal.SIGTERM, bye)
print("up", flush=True)
time.sleep(60)
"""
    for name, ends_last in (("broker", True), ("worker", False)):
        command = [sys.executable, "-c", goodbye, name]
        supervisor.start(Program(name, command, lambda said: "up" in said, ends_last=ends_last))
    until(supervisor, lambda: not supervisor.unanswered())
    supervisor.stop()
    assert (tmp_path / "order").read_text().split() == ["worker", "broker"]


def test_a_command_run_once_gives_its_code_and_words(supervisor):
    code, said = supervisor.run_once("once", [sys.executable, "-c", "print('done'); raise SystemExit(4)"], lambda: None)
    assert (code, said) == (4, "done\n")
