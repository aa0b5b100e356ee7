"""Stopped processes, and live workers that accept nothing, are detected and worked around."""

import json
import os
import signal
import subprocess
import time
from datetime import timedelta

import httpx
import pytest
import yaml
from django.db import connection, transaction
from django.db.models import F

from celery_ledger import clock
from celery_ledger.models import Canary, DurableTask, Heartbeat
from celery_ledger.watch import canaries, heartbeats, watchdog
from celery_ledger.watch.samples import queue_names
from celery_ledger.work.bootsteps import LOOP_HANGS_AFTER
from tests import probe
from tests.processes import ROOT, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.once]
Status = DurableTask.Status


def texts(part):
    return [problem.text for problem in watchdog.problems() if problem.part == part]


@transaction.atomic
def can_lock(id):
    return DurableTask.objects.select_for_update(skip_locked=True).filter(id=id).exists()


def test_a_stopped_worker_is_reported_and_its_work_done_elsewhere(machine):
    web = machine.start_web()
    machine.start_relay()
    stopped = machine.start_worker(concurrency=1)
    wait_until("the worker is heard of", lambda: Heartbeat.objects.filter(kind="worker").exists())
    for number in range(6):
        probe.ring_slowly.delay(f"bell {number}", 0.5)
    wait_until("the worker has work", lambda: DurableTask.objects.filter(status=Status.RUNNING).exists())
    began = time.monotonic()
    stopped.kill(signal.SIGSTOP)
    assert DurableTask.objects.exclude(status=Status.SUCCEEDED).exists()
    machine.start_worker(concurrency=1)
    address = f"http://127.0.0.1:{machine.web_port}/health/ready/"
    wait_until("it is reported", lambda: "workers" in httpx.get(address).json()["failing"], seconds=30)
    reported = time.monotonic() - began
    health = machine.run_command("health", "worker")
    assert health.returncode == 1
    assert f"worker {stopped.pid} " in health.stderr
    wait_until(
        "its work is done elsewhere", lambda: not DurableTask.objects.exclude(status=Status.SUCCEEDED), seconds=60
    )
    print(f"reported after {reported:.1f} s, done elsewhere after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 60
    assert web.is_alive


@pytest.mark.slow_fault
@pytest.mark.postgresql
def test_a_worker_that_is_stopped_in_a_transaction_holds_its_rows_for_less_than_a_minute(machine):
    machine.start_relay()
    stopped = machine.start_worker(concurrency=1)
    task = probe.make_slowly.delay("shelf", 2)
    wait_until("its effect is under way", lambda: stopped.says(str(task.id)))
    wait_until("its row is held", lambda: not can_lock(task.id))
    stopped.kill(signal.SIGSTOP)
    began = time.monotonic()
    machine.start_worker(concurrency=1)
    wait_until("the task is done elsewhere", lambda: DurableTask.objects.get().status == Status.SUCCEEDED, seconds=70)
    print(f"a stopped transaction's task was done elsewhere after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 60


def test_a_stopped_relay_is_reported_and_the_other_one_does_its_work(machine):
    stopped = machine.start_relay()
    machine.start_relay()
    machine.start_worker(concurrency=1)
    wait_until("both are heard of", lambda: Heartbeat.objects.filter(kind="relay").count() == 2)
    stopped.kill(signal.SIGSTOP)
    probe.make_collection.delay("shelf")
    wait_until("it is reported", lambda: any(f"relay {stopped.pid} " in text for text in texts("relay")), seconds=30)
    wait_until("the task is done", lambda: DurableTask.objects.filter(status=Status.SUCCEEDED).exists(), seconds=70)


@pytest.mark.slow_fault
def test_a_worker_without_its_broker_is_not_silent_and_neither_is_it_afterwards(machine):
    if machine.uses_rabbitmq:
        pytest.skip("the RabbitMQ of the run is shared and not ours to stop")

    def goes_on_in(state):
        """Beats in this state, and still does when a loop that hangs would have been noticed."""
        wait_until(f"it is {state}", lambda: Heartbeat.objects.filter(kind="worker", state=state).exists(), seconds=30)
        since = Heartbeat.objects.get(kind="worker").beaten_at
        later = since + timedelta(seconds=LOOP_HANGS_AFTER + 5)
        wait_until("it goes on", lambda: Heartbeat.objects.filter(state=state, beaten_at__gt=later).exists())
        assert machine.run_command("health", "worker").returncode == 0

    machine.start_worker(concurrency=1)
    goes_on_in(heartbeats.OK)
    machine.stop_broker()
    goes_on_in(heartbeats.BROKER_AWAY)
    machine.start_broker()
    goes_on_in(heartbeats.OK)


@pytest.mark.slow_fault
def test_a_queue_that_nobody_consumes_is_reported_and_its_canary_does_not_pile_up(machine):
    machine.start_relay()
    machine.start_worker("-Q", "default,email", concurrency=1)
    wait_until(
        "the other queues are reported",
        lambda: len(texts("queues")) == 4 and all("nobody takes" in text for text in texts("queues")),
        seconds=70,
    )
    assert not any("email" in text or "default" in text for text in texts("queues"))
    Canary.objects.filter(queue="inventory").update(repeated_at="2010-12-01T08:00Z")
    assert canaries.due(["inventory"]) in (["inventory"], [])  # The relay may be there first.
    assert canaries.due(["inventory"]) == []
    machine.start_worker("-Q", "inventory,analytics,notifications,scheduled", concurrency=1)
    wait_until("they are well", lambda: texts("queues") == [], seconds=30)


def test_processes_that_end_in_good_order_are_not_missed_and_the_killed_are_forgotten(machine):
    relay, worker = machine.start_relay(), machine.start_worker(concurrency=1)
    wait_until("both are heard of", lambda: Heartbeat.objects.count() == 2)
    health = machine.run_command("health", "worker")
    assert (health.returncode, health.stdout) == (0, f"ok: {Heartbeat.objects.get(kind='worker').process}\n")
    relay.stop()
    worker.stop()
    assert not Heartbeat.objects.exists()
    assert machine.run_command("health", "relay").returncode == 1

    killed = machine.start_worker(concurrency=1)
    wait_until("it is heard of", lambda: Heartbeat.objects.exists())
    killed.kill()
    new = machine.start_worker(concurrency=1)
    wait_until(
        "only the new one is known",
        lambda: [known.process.split()[1] for known in Heartbeat.objects.all()] == [str(new.pid)],
    )


def test_a_database_that_is_away_is_no_reason_to_start_a_worker_again(machine):
    machine.environment["DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/nothing"
    health = machine.run_command("health", "worker")
    assert (health.returncode, "The database is unavailable" in health.stdout) == (0, True), json.dumps(health.stderr)


@pytest.mark.fault("F91")
@pytest.mark.postgresql
def test_f91_after_a_restart_of_the_database_no_idle_queue_is_said_to_have_no_worker(own_postgresql, machine):
    machine.start_relay()
    machine.start_worker(concurrency=1)
    began = clock.now()
    wait_until("each canary came back", lambda: came_back_since(began), seconds=60)
    connection.close()
    own_postgresql.restart(seconds_away=2)
    since = clock.now()
    said = []

    def each_has_come_back():
        said.extend(texts("queues"))
        return came_back_since(since)

    wait_until("each has come back", each_has_come_back, seconds=60)
    assert said == []


@pytest.mark.fault("F91")
def test_f91_a_relay_whose_broker_is_away_works_and_its_probe_says_so(machine):
    if machine.uses_rabbitmq:
        pytest.skip("the RabbitMQ of the run is shared and not ours to stop")
    relay = machine.start_relay()
    wait_until("it is heard of", lambda: Heartbeat.objects.exists())
    machine.stop_broker()
    wait_until("it says so", lambda: any("broker away" in text for text in texts("relay")), seconds=30)
    health = machine.run_command("health", "relay")
    assert (health.returncode, health.stderr) == (0, "")
    relay.kill(signal.SIGSTOP)
    wait_until("it is silent", lambda: any("silent" in text for text in texts("relay")), seconds=40)
    assert machine.run_command("health", "relay").returncode == 1


def came_back_since(moment):
    """Whether each queue's message, sent since then, came back."""
    sent = Canary.objects.filter(seen_at__gte=F("sent_at"))
    return sent.filter(sent_at__gt=moment).count() == len(queue_names())


@pytest.mark.fault("F163")
@pytest.mark.parametrize("kind", ["relay", "worker"])
def test_f163_a_probe_looks_at_a_file_and_depends_on_no_broker(machine, tmp_path, kind):
    file = tmp_path / "alive"
    start = machine.start_relay if kind == "relay" else machine.start_worker
    process = start(LEDGER_ALIVE_FILE=str(file))
    wait_until("it gives a sign of life", file.exists)
    if not machine.uses_rabbitmq:
        machine.stop_broker()
    for _ in range(2):
        seen = file.stat().st_mtime
        wait_until("it gives another one", lambda seen=seen: file.stat().st_mtime > seen, seconds=30)
    assert probed(kind, file) == 0
    process.kill(signal.SIGSTOP)
    os.utime(file, (time.time() - 70, time.time() - 70))
    assert probed(kind, file) == 1


def probed(kind, file):
    """Return what the manifest's probe of a worker or relay ends with."""
    document = next(yaml.safe_load_all((ROOT / f"deploy/kubernetes/{kind}.yaml").read_text()))
    [container] = document["spec"]["template"]["spec"]["containers"]
    command = container["livenessProbe"]["exec"]["command"]
    return subprocess.run([word.replace("/tmp/alive", str(file)) for word in command], check=False).returncode
