"""``manage.py doctor`` is content with a sound installation, and names what is wrong with one that is not."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from celery_ledger.models import DurableTask, Heartbeat
from tests import probe
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.once]


def ailing(machine):
    """Return what the doctor says is wrong."""
    said = machine.run_command("doctor", "--json")
    found = {finding["what"]: finding["how"] for finding in json.loads(said.stdout) if finding["advice"]}
    assert bool(found) == bool(said.returncode), said.stderr
    return found


def test_a_sound_installation_has_nothing_wrong(machine):
    machine.start_relay()
    machine.start_worker(concurrency=1)
    wait_until("both are heard of", lambda: Heartbeat.objects.count() == 2)
    assert ailing(machine) == {}
    assert "BAD" not in machine.run_command("doctor").stdout


def test_each_thing_that_is_wrong_is_named(machine):
    found = ailing(machine)
    assert found["relay"] == "no relay is running"
    assert found["workers"] == "no worker is running"

    DurableTask.objects.create(name="tests.gone", queue="nowhere", available_at=timezone.now() - timedelta(hours=1))
    DurableTask.objects.create(
        name="tests.give_up", queue="default", status="dead", last_error="x", completed_at=timezone.now()
    )
    nightly = CrontabSchedule.objects.create(minute="30", hour="3")
    PeriodicTask.objects.create(name="Old", task="tests.gone", crontab=nightly)
    PeriodicTask.objects.create(
        name="Late", task=probe.ring.name, crontab=nightly, last_run_at=timezone.now() - timedelta(days=2)
    )
    said = machine.run_command("doctor").stdout
    for words in (
        "1 tasks wait in 'nowhere'",
        "1 tasks named 'tests.gone'",
        "'Old' names a task that does not exist",
        "'Late' was due",
        "stuck tasks: 1",
        "dead letters: 1",
        f"Look at {reverse('admin:celery_ledger_durabletask_dead')}:",
    ):
        assert words in said, said
    machine.stop_broker()
    assert "it does not answer" in ailing(machine)["broker"]


def test_a_database_that_is_away_is_one_line_and_no_traceback(machine):
    machine.environment["DATABASE_URL"] = "postgres://nobody:hidden@127.0.0.1:1/none"
    said = machine.run_command("doctor")
    assert said.returncode == 1
    assert "the database is unavailable" in said.stdout
    assert "Traceback" not in said.stderr
    assert "hidden" not in said.stdout + said.stderr


@pytest.mark.postgresql
def test_a_transaction_that_was_left_open_is_named(machine, monkeypatch):
    from celery_ledger.desk import doctor

    monkeypatch.setattr(doctor, "OLD_TRANSACTION", -1)
    assert {finding.what for finding in doctor.database() if not finding.is_well} == {"transactions"}
    assert connection.vendor == "postgresql"
