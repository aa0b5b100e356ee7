"""Health: an unavailable broker does not take the shop out of service; an unavailable database does."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from celery_ledger.models import Heartbeat
from celery_ledger.watch import heartbeats
from tests.shop import api

pytestmark = pytest.mark.django_db

NOBODY_LISTENS = "127.0.0.1:1"


@pytest.fixture
def database_away(monkeypatch):
    def fail(*args, **kwargs):
        raise OperationalError("connection refused")

    monkeypatch.setattr(connection, "cursor", fail)


def test_a_process_that_runs_is_alive():
    response = api().get("/health/live/")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.usefixtures("database_away")
def test_a_process_without_its_database_is_alive():
    assert api().get("/health/live/").status_code == 200


@pytest.mark.parametrize("scheme", ["redis", "amqp", "sentinel"])
def test_a_broker_that_is_away_is_named_and_orders_are_taken(settings, scheme):
    settings.CELERY_BROKER_URL = f"{scheme}://{NOBODY_LISTENS}/0;{scheme}://{NOBODY_LISTENS}/0"
    if scheme == "redis":
        settings.CELERY_BROKER_URL = f"{scheme}://{NOBODY_LISTENS}/0"

    response = api().get("/health/ready/")

    assert response.status_code == 200
    assert response.json()["status"] == "degraded"
    assert "broker" in response.json()["failing"]
    assert response.json()["parts"]["database"] == "ok"
    assert response.json()["parts"]["broker"] == "unreachable"


def test_the_machinery_is_spoken_of_without_names():
    response = api().get("/health/ready/")

    assert response.status_code == 200
    assert response.json()["parts"]["relay"] == "1 problem"
    assert {"relay", "workers"} <= set(response.json()["failing"])
    heartbeats.beat(Heartbeat.Kind.RELAY)
    heartbeats.beat(Heartbeat.Kind.WORKER)
    assert api().get("/health/ready/").json()["parts"]["relay"] == "ok"
    assert api().get("/health/ready/").json()["parts"]["workers"] == "ok"


@pytest.mark.usefixtures("database_away")
def test_a_database_that_is_away_takes_the_process_out_of_service():
    response = api().get("/health/ready/")

    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert response.json()["parts"]["database"] == "unreachable"
    assert "database" in response.json()["failing"]
    assert response.headers["Retry-After"]


def test_schedules_that_no_beat_runs_are_named_and_orders_are_taken(settings):
    settings.CELERY_BROKER_URL = f"redis://{NOBODY_LISTENS}/0"
    hourly = CrontabSchedule.objects.create(minute="0", timezone="UTC")
    ago = timezone.now() - timedelta(days=3)
    PeriodicTask.objects.create(name="hourly", task="tests.x", crontab=hourly, last_run_at=ago)

    response = api().get("/health/ready/")

    assert response.status_code == 200
    assert response.json()["parts"]["schedules"] == "late"
    assert "schedules" in response.json()["failing"]


def test_health_is_not_cached():
    assert "no-cache" in api().get("/health/ready/").headers["Cache-Control"]


def test_health_is_only_read():
    assert api().post("/health/live/").status_code == 405
