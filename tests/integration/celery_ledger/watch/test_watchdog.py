"""What the watchdog reads from what processes said of themselves."""

import os
import socket
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from celery_ledger import clock
from celery_ledger.contrib.beat.models import SchedulePolicy
from celery_ledger.models import Canary, Heartbeat, QueueSample
from celery_ledger.watch import canaries, heartbeats, samples, watchdog
from tests.shop import api, make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker():
    """A worker that has beaten, and has taken nothing for a minute."""
    heartbeats.beat(Heartbeat.Kind.WORKER, queues=["email", "default"], active=0, received=5)
    Heartbeat.objects.update(received_at=Now() - timedelta(minutes=1))


def messages_wait(queue, *counts):
    for age, count in enumerate(counts):
        QueueSample.objects.create(
            at=timezone.now() - timedelta(seconds=10 * age + 1),
            queue=queue,
            pending=0,
            published=count,
            running=0,
            dead=0,
            messages=count,
            succeeded=0,
            failed=0,
            lag=0,
        )


def texts(part):
    return [problem.text for problem in watchdog.problems() if problem.part == part]


@pytest.mark.usefixtures("worker")
class TestAWorkerThatTakesNothing:
    def test_it_is_found_while_messages_wait(self):
        messages_wait("email", 3, 2)
        assert "has taken no messages" in texts("workers")[0]

    @pytest.mark.parametrize("waiting", [("email", 0, 0), ("email", 3, 0), ("email", 3), ("inventory", 3, 3)], ids=str)
    def test_a_worker_without_anything_to_take_is_well(self, waiting):
        messages_wait(*waiting)
        assert texts("workers") == []

    def test_a_worker_with_its_hands_full_is_well(self):
        messages_wait("email", 3, 2)
        heartbeats.beat(Heartbeat.Kind.WORKER, queues=["email"], active=2, received=5)
        assert texts("workers") == []

    def test_a_worker_that_takes_again_is_well(self):
        messages_wait("email", 3, 2)
        heartbeats.beat(Heartbeat.Kind.WORKER, queues=["email"], active=0, received=6)
        assert texts("workers") == []


def test_a_schedule_is_late_by_its_own_policy():
    nightly = CrontabSchedule.objects.create(minute="30", hour="3")
    model = PeriodicTask.objects.create(
        name="Prune", task="celery_ledger.tasks.prune", crontab=nightly, last_run_at=timezone.now() - timedelta(days=2)
    )
    assert "'Prune' was due" in texts("schedules")[0]
    SchedulePolicy.objects.create(schedule=model, alert_after=0)
    assert texts("schedules") == []


def test_a_clock_that_is_wrong_is_found(monkeypatch):
    assert texts("clock") == []
    monkeypatch.setattr(clock, "now", lambda: timezone.now() - timedelta(seconds=5))
    assert texts("clock") == ["it is +5.0 s from the database's"]


def test_staff_are_told_what_is_wrong():
    body = api(make_user(is_staff=True)).get("/api/ops/problems/").json()
    assert {"part": "relay", "text": "no relay is running", "stalled": ""} in body["results"]


def test_a_relay_without_its_broker_is_found():
    heartbeats.beat(Heartbeat.Kind.RELAY, "broker away")
    assert texts("relay")[0].endswith(": broker away")
    samples.take({})


@pytest.fixture
def young():
    """A process that has just begun."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_killed_process_whose_id_came_again_is_forgotten(young):
    at = f"at {socket.gethostname()}"
    killed, silent = f"relay {young.pid} {at}", f"relay {os.getppid()} {at}"
    Heartbeat.objects.bulk_create(
        Heartbeat(process=name, kind=Heartbeat.Kind.RELAY, state="ok") for name in (killed, silent)
    )
    Heartbeat.objects.filter(process=killed).update(beaten_at=Now() - timedelta(seconds=20))
    heartbeats.beat(Heartbeat.Kind.RELAY)
    assert set(Heartbeat.objects.values_list("process", flat=True)) == {
        silent,
        heartbeats.own_name(Heartbeat.Kind.RELAY),
    }


@pytest.mark.parametrize("error", [PermissionError, None], ids=["somebody else's", "ours"])
@pytest.mark.parametrize("tells", [True, False], ids=["Linux", "elsewhere"])
def test_a_process_that_runs_is_not_forgotten_whosever_it_is_and_whatever_the_system(monkeypatch, error, tells):
    def signal(pid, number):
        if error:
            raise error

    silent = f"relay {os.getppid()} at {socket.gethostname()}"
    Heartbeat.objects.create(process=silent, kind=Heartbeat.Kind.RELAY, state="ok")
    monkeypatch.setattr(os, "kill", signal)
    if not tells:
        monkeypatch.setattr(heartbeats, "Path", lambda name: Path("/nowhere"))
    heartbeats.beat(Heartbeat.Kind.RELAY)
    assert Heartbeat.objects.filter(process=silent).exists()


@pytest.fixture
def another_machine(monkeypatch):
    """A machine whose name begins like ours, with a relay that has fallen silent."""
    ours = heartbeats.own_name(Heartbeat.Kind.RELAY)
    heartbeats.beat(Heartbeat.Kind.RELAY)
    Heartbeat.objects.create(process=f"{ours}-2", kind=Heartbeat.Kind.RELAY, state="ok")
    Heartbeat.objects.filter(process=f"{ours}-2").update(beaten_at=Now() - timedelta(minutes=1))


@pytest.mark.usefixtures("another_machine")
def test_a_probe_is_about_this_machine_s_processes_alone(capsys):
    assert len(texts("relay")) == 1
    call_command("health", "relay")
    assert capsys.readouterr().out.startswith("ok: ")


def test_a_relay_that_waits_for_its_broker_lives(capsys):
    heartbeats.beat(Heartbeat.Kind.RELAY, heartbeats.BROKER_AWAY)
    assert texts("relay") != []
    call_command("health", "relay")
    Heartbeat.objects.update(beaten_at=Now() - timedelta(minutes=1))
    with pytest.raises(CommandError, match="has been silent"):
        call_command("health", "relay")


def test_a_queue_that_is_no_more_is_not_missed():
    for queue in ("email", "letters"):
        Canary.objects.create(queue=queue, seen_at=Now() - timedelta(days=1))
    Canary.objects.update(sent_at=Now() - timedelta(minutes=1))
    assert len(texts("queues")) == 1
    assert texts("queues")[0].startswith("no worker has taken messages from email for 60 s")
    canaries.start_anew()
    assert texts("queues") == []
    assert canaries.due(["email"]) == ["email"]
