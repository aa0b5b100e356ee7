"""Retries: named policies, and mails during an outage of days, by the database's clock."""

import itertools
import random
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import F

from celery_ledger import retries
from celery_ledger.models import DurableTask
from celery_ledger.project import import_tasks
from celery_ledger.testing import drain
from email_app.models import EmailDelivery
from store.models import Order
from store.signals import order_created
from tests import probe
from tests.shop import make_order
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
DAY = 24 * 3600


@pytest.mark.parametrize("name", retries.POLICIES)
def test_a_policy_s_pauses_double_up_to_a_ceiling_that_is_reached(name):
    policy = retries.policy(name)
    pauses = policy.pauses()
    assert len(pauses) == policy.retries
    assert pauses[0] == policy.first
    assert pauses[-1] == policy.longest
    assert all(later == min(2 * earlier, policy.longest) for earlier, later in itertools.pairwise(pauses))


def test_the_patient_outlast_a_day_whatever_chance_makes_of_the_pauses():
    assert sum(retries.policy("patient").pauses()) / 2 > DAY


def test_what_speaks_to_others_servers_is_patient():
    import_tasks()
    outward = {
        name
        for name, task in app.tasks.items()
        if name.startswith(("email_app.tasks.send_", "phones.tasks."))
        or name.endswith(("_notification", "send_report"))
    }
    assert {name for name in outward if app.tasks[name].retries != "patient"} == set()
    assert len(outward) >= 8


def test_a_task_says_its_policy_and_celery_s_own_options_win():
    patient = type("Patient", (Task,), {"name": "tests.patient", "retries": "patient"})
    hasty = type("Hasty", (Task,), {"name": "tests.hasty", "retries": "patient", "max_retries": 3})
    assert (patient.max_retries, patient.retry_backoff_max) == (59, 3_600)
    assert (hasty.max_retries, hasty.retry_backoff_max) == (3, 3_600)
    assert probe.make_collection.retries == "brisk"
    with pytest.raises(ValueError, match="no retry policy 'eager'"):
        type("Strange", (Task,), {"name": "tests.strange", "retries": "eager"})


# --- Days of an outage ------------------------------------------------------------------


class Days:
    """Time that passes for one task, from each of its attempts to the next."""

    def __init__(self, task):
        self.task = task
        self.seconds = 0.0

    def go_on(self) -> None:
        """Let time pass until the task is due, and run it."""
        row = DurableTask.objects.get(pk=self.task.pk)
        pause = (row.available_at - row.published_at).total_seconds() if row.published_at else 0.0
        self.seconds += pause
        later = DurableTask.objects.filter(status="pending")
        later.update(available_at=F("available_at") - timedelta(seconds=max(pause, 0) + 1))
        drain()

    @property
    def status(self) -> str:
        return DurableTask.objects.get(pk=self.task.pk).status


@pytest.fixture
def confirmation(mail_server):
    """The task that confirms an order, which is the only one there is."""
    order = make_order()
    DurableTask.objects.all().delete()
    with transaction.atomic():
        order_created.send_robust(sender=Order, order=order)
    DurableTask.objects.exclude(name="email_app.tasks.send_order_confirmation").delete()
    return DurableTask.objects.get()


@pytest.mark.fault("F51", "F79")
def test_f51_a_mail_outlasts_a_mail_server_that_is_away_for_a_day_and_is_sent_once(mail_server, confirmation, settings):
    settings.EMAIL_PORT, port = 1, settings.EMAIL_PORT  # There is no listener.
    days = Days(confirmation)
    while days.seconds < DAY:
        days.go_on()
        assert days.status == "pending"
    settings.EMAIL_PORT = port
    days.go_on()
    assert days.status == "succeeded"
    assert len(mail_server.received) == 1
    assert days.seconds < DAY + 2 * 3_600, "it came long after the server was back"


@pytest.mark.fault("F52", "F79")
def test_f52_a_mail_outlasts_a_mail_server_that_is_busy_for_a_night(mail_server, confirmation):
    mail_server.answers.extend(["451 busy"] * 1_000)
    days = Days(confirmation)
    while days.seconds < 9 * 3_600:
        days.go_on()
        assert days.status == "pending"
    mail_server.answers.clear()
    days.go_on()
    assert days.status == "succeeded"
    assert len(mail_server.received) == 1


@pytest.mark.fault("F79")
def test_f79_a_mail_server_that_never_comes_back_costs_a_dead_letter_after_more_than_a_day(
    mail_server, confirmation, settings, monkeypatch
):
    monkeypatch.setattr(random, "uniform", lambda least, most: least)  # As short as chance can make it.
    settings.EMAIL_PORT = 1
    days = Days(confirmation)
    while days.status == "pending":
        days.go_on()
    assert days.status == "dead"
    assert days.seconds > DAY
    assert DurableTask.objects.get().attempts == retries.policy("patient").retries + 1
    assert EmailDelivery.objects.get().status == "pending"
    print(f"F79: dead after {days.seconds / 3_600:.1f} hours at the least")
