"""Workers, relays and beats follow operators' instructions, and finish what they hold."""

import os
import signal
import time

import pytest

from celery_ledger.desk import crew
from celery_ledger.models import DurableTask, Heartbeat
from celery_ledger.work.bootsteps import LOOP_HANGS_AFTER
from tests import probe
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.once]
Status = DurableTask.Status
Kind = Heartbeat.Kind


def only(kind):
    return next((each for each in crew.processes() if each.kind == kind), None)


def is_heard_of(kind):
    return lambda: only(kind) is not None


def test_a_worker_is_drained_resumed_and_stopped(machine):
    machine.start_relay()
    worker = machine.start_worker(concurrency=1)
    wait_until("it is heard of", is_heard_of(Kind.WORKER))
    probe.ring_slowly.delay("first", 15)
    wait_until("it says what it does", lambda: only(Kind.WORKER).doing, seconds=20)
    [doing] = only(Kind.WORKER).doing
    assert (doing["task"], doing["tasks"]) == ("tests.ring_slowly", 1)
    assert only(Kind.WORKER).memory > 10 * 2**20

    crew.tell(only(Kind.WORKER).process, "drain")
    wait_until("it drains", lambda: only(Kind.WORKER).state == "draining", seconds=15)
    late = probe.ring_slowly.delay("second", 0.1).id
    wait_until("it is drained", lambda: only(Kind.WORKER).state == "drained", seconds=40)
    assert DurableTask.objects.get(args=["first", 15]).status == Status.SUCCEEDED
    # The relay has published it by now, and the worker leaves it to others.
    wait_until("it waits at the broker", lambda: DurableTask.objects.get(id=late).status == Status.PUBLISHED)
    time.sleep(2)
    assert DurableTask.objects.get(id=late).status == Status.PUBLISHED

    crew.tell(only(Kind.WORKER).process, "resume")
    wait_until("it takes messages again", lambda: DurableTask.objects.get(id=late).status == Status.SUCCEEDED)
    wait_until("it says so", lambda: only(Kind.WORKER).state == "ok", seconds=15)

    probe.ring_slowly.delay("third", 12)
    wait_until("it has work", lambda: only(Kind.WORKER).doing, seconds=20)
    crew.tell(only(Kind.WORKER).process, "stop")
    wait_until("it ends", lambda: not worker.is_alive, seconds=30)
    assert DurableTask.objects.get(args=["third", 12]).status == Status.SUCCEEDED
    assert only(Kind.WORKER) is None


def test_relays_and_beats_are_stopped(machine):
    relay, beat = machine.start_relay(), machine.start_beat()
    for kind, process in ((Kind.RELAY, relay), (Kind.BEAT, beat)):
        wait_until(f"a {kind} is heard of", is_heard_of(kind), seconds=30)
        crew.tell(only(kind).process, "stop")
        wait_until(f"the {kind} ends", lambda process=process: not process.is_alive, seconds=20)
        assert only(kind) is None


def test_a_worker_whose_loop_hangs_is_named_and_killed_when_it_is_to_stop(machine):
    worker = machine.start_worker(concurrency=1, CELERY_RDBSIG="1")
    wait_until("it is heard of", is_heard_of(Kind.WORKER))
    os.kill(worker.pid, signal.SIGUSR2)  # It waits for a debugger, in its event loop.
    wait_until("it is silent", lambda: only(Kind.WORKER).state == "silent", seconds=LOOP_HANGS_AFTER + 30)
    assert "has been silent" in only(Kind.WORKER).problem

    crew.tell(only(Kind.WORKER).process, "stop")
    wait_until("it is killed", lambda: not worker.is_alive, seconds=20)
