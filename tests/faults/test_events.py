"""A real worker's events, from which Flower builds its pages: each task under its own id, with the ledger's status."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict

import pytest

from celery_ledger.models import DurableTask
from celery_ledger.rows.outbox import collecting
from tests import probe
from tests.processes import ROOT, wait_until
from worker.celery import app

pytestmark = [pytest.mark.processes, pytest.mark.once]


@pytest.fixture
def heard(machine):
    """The events by task, as received from the broker."""
    if machine.uses_rabbitmq:
        pytest.skip("It listens to a Redis.")
    told = defaultdict(list)
    listening = threading.Event()
    connection = app.connection_for_read(machine.environment["REDIS_URL"])
    receiver = app.events.Receiver(connection, handlers={"*": lambda event: hear(event)})
    receiver.on_consume_ready = lambda *_, **__: listening.set()

    def hear(event):
        if event["type"].startswith("task-"):
            told[event["uuid"]].append(event)

    thread = threading.Thread(target=lambda: receiver.capture(wakeup=False), daemon=True)
    thread.start()
    assert listening.wait(20)
    yield told
    receiver.should_stop = True
    thread.join()
    connection.release()


def kinds(events):
    return [event["type"].removeprefix("task-") for event in events]


@pytest.mark.fault("F81")
def test_f81_events_are_of_tasks_and_say_what_became_of_them(machine, heard):
    machine.start_relay()
    worker = machine.start_worker("-E", concurrency=1)
    good = probe.make_collection.delay("garden")
    bad = probe.give_up.delay("permanent")
    again = probe.come_back.delay(600)
    with collecting():
        together = [probe.make_collections.delay(f"shelf {number}") for number in range(5)]
        taken = probe.make_collections.delay("garden")  # There is one already: it fails alone.
    slow = probe.ring_slowly.delay("slow", 30)
    wait_until("the slow one runs", lambda: worker.says("slow is under way"))
    (child,) = worker.children()
    os.kill(child, signal.SIGKILL)
    ends = {"succeeded", "failed", "retried"}
    handles = [good, bad, again, taken, slow, *together]
    wait_until("all are told of", lambda: all(ends & set(kinds(heard[handle.id])) for handle in handles), seconds=30)
    assert kinds(heard[good.id]) == ["received", "started", "succeeded"]
    assert kinds(heard[bad.id]) == ["received", "started", "failed"]
    assert kinds(heard[again.id]) == ["received", "started", "retried"]
    assert kinds(heard[taken.id])[:3] == ["received", "started", "retried"]
    assert kinds(heard[slow.id])[:3] == ["received", "started", "retried"]
    for handle in together:
        assert kinds(heard[handle.id]) == ["received", "started", "succeeded"]
        assert heard[handle.id][0]["name"] == "tests.make_collections"
    assert "PermanentError" in heard[bad.id][-1]["exception"]
    assert "Traceback" in heard[bad.id][-1]["traceback"]
    assert "garden" in heard[good.id][-1]["result"]
    assert set(heard) == set(map(str, DurableTask.objects.values_list("id", flat=True))), "messages were told of"


@pytest.mark.fault("F81")
def test_f81_without_listeners_no_event_is_built_and_none_is_sent(machine, tmp_path):
    """Though Celery's dispatcher is enabled then too, for the heartbeats of workers."""
    machine.start_relay()
    counted = tmp_path / "counted"
    rows = DurableTask.objects

    def what_events_cost(*options):
        counted.write_text("")
        worker = machine._start(
            "worker",
            [sys.executable, "-m", "celery", "-A", "tests.counted", "worker", "-l", "info", "-c", "1", *options],
            {"COUNTED": str(counted)},
        )
        wait_until("the worker is ready", lambda: worker.says(" ready."))
        with collecting():
            calls = [probe.make_collections.delay(f"shelf {number}{options}") for number in range(5)]
        calls += [
            probe.make_collection.delay(f"garden {options}"),
            probe.leave_mark.delay(str(tmp_path / "mark"), 0),
            probe.give_up.delay("permanent"),
            probe.fail_twice.delay("twice"),
        ]
        ids = [call.id for call in calls]
        wait_until("all have ended", lambda: not rows.filter(id__in=ids, completed_at=None).exists())
        worker.stop()
        return set(counted.read_text().split())

    assert what_events_cost() == set()
    assert what_events_cost("-E") == {"EventDispatcher.send", "Telling._event_of", "Outcomes.events"}


def test_who_asks_a_worker_what_it_runs_is_told_of_each_row(machine):
    machine.start_relay()
    worker = machine.start_worker(concurrency=1)
    with collecting():
        together = [
            probe.make_slowly_together.delay([title, seconds]) for title, seconds in (("quick", 0), ("slow", 30))
        ]
    wait_until("it runs", lambda: worker.says("slow is under way"))

    def ask(*command):
        said = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "worker", "inspect", "--timeout", "5", "--json", *command],
            cwd=ROOT,
            env=machine.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        [told] = json.loads(said.stdout).values()
        return told

    running = {told["id"]: (told["name"], told["args"]) for told in ask("active")}
    assert running == {call.id: ("tests.make_slowly_together", f"({call.id})") for call in together}
    assert ask("query_task", together[1].id)[together[1].id][0] == "active"
