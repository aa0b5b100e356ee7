"""A general failure is visible: on the operations page, in the metrics, to doctor, and to managers, once."""

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from celery_ledger.desk import dead_letters, doctor
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain, pass_time
from celery_ledger.watch import samples
from notifications import tasks
from notifications.models import Notification
from tests import probe
from tests.shop import api, browser_of, make_user

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


@pytest.fixture
def failing():
    """Two tasks that fail for the third time and wait, and one that has only just been enqueued."""
    probe.failing.update(garden=ConnectionRefusedError("no mail server"), yard=ConnectionRefusedError("no mail server"))
    for title in ("garden", "yard"):
        probe.make_collection.delay(title)
    for _ in range(3):
        pass_time(minutes=30)
        drain()
    probe.make_collection.apply_async(("shed",), countdown=60)
    assert set(DurableTask.objects.values_list("status", "attempts")) == {(Status.PENDING, 3), (Status.PENDING, 0)}


@pytest.mark.fault("F97")
def test_what_waits_to_be_tried_again_is_a_number_wherever_one_looks(failing):
    samples.take({})
    staff = make_user(is_staff=True, is_superuser=True)
    rows = {row["queue"]: row for row in api(staff).get("/api/ops/queues/").json()["results"]}
    assert (rows["default"]["pending"], rows["default"]["retrying"], rows["email"]["retrying"]) == (3, 2, 0)
    out = StringIO()
    call_command("outbox", "stats", stdout=out)
    head, default, *_ = out.getvalue().splitlines()
    assert dict(zip(head.split(), default.split(), strict=True))["retrying"] == "2"
    metrics = Client().get("/metrics").text
    assert 'celery_ledger_tasks_retrying{queue="default",task="tests.make_collection"} 2.0' in metrics
    browser = browser_of(staff)
    assert "<th>Retrying</th>" in browser.get(reverse("admin:celery_ledger_queueswitch_changelist")).text


@pytest.mark.fault("F97")
def test_doctor_says_what_keeps_failing_and_of_what(failing):
    finding = next(finding for finding in doctor.ledger() if finding.what == "retrying tasks")
    assert finding.how == "2, most of tests.make_collection: ConnectionRefusedError: no mail server"
    assert not finding.is_well


def test_doctor_says_nothing_of_a_hiccup():
    probe.failing["garden"] = ConnectionResetError("once")
    probe.make_collection.delay("garden")
    drain()
    finding = next(finding for finding in doctor.ledger() if finding.what == "retrying tasks")
    assert finding.is_well
    assert finding.how.startswith("1, most of tests.make_collection")


class TestManagersAreTold:
    @pytest.fixture
    def manager(self):
        user = make_user()
        user.groups.add(Group.objects.get_or_create(name="managers")[0])
        return user

    def die(self, number, name="tests.make_collection", ago=timedelta(minutes=5)):
        DurableTask.objects.bulk_create(
            DurableTask(
                name=name,
                queue="default",
                status=Status.DEAD,
                completed_at=timezone.now() - ago,
                last_error="OSError: the post is closed",
            )
            for _ in range(number)
        )

    @pytest.mark.fault("F97")
    def test_once_of_all_that_died(self, manager):
        self.die(14)
        self.die(1, "tests.give_up")
        assert tasks.tell_of_dead_letters.run() == 15
        assert tasks.tell_of_dead_letters.run() == 0
        note = Notification.objects.get(user=manager)
        assert note.kind == "dead_letters"
        assert note.message == ("15 tasks have become dead letters: tests.make_collection (14), tests.give_up (1).")
        self.die(3)
        assert tasks.tell_of_dead_letters.run() == 0

    def test_again_after_an_hour_of_those_that_died_since(self, manager):
        self.die(14)
        tasks.tell_of_dead_letters.run()
        note = Notification.objects.get()
        earlier = timezone.now() - timedelta(hours=2)
        Notification.objects.update(data=note.data | {"until": earlier.isoformat()}, key="dead_letters:before")
        DurableTask.objects.update(completed_at=earlier - timedelta(minutes=1))
        assert tasks.tell_of_dead_letters.run() == 0
        self.die(1)
        assert tasks.tell_of_dead_letters.run() == 1
        assert Notification.objects.order_by("-pk").first().message.startswith("1 task has become a dead letter")

    def test_of_nothing_that_was_decided_about_meanwhile(self, manager):
        self.die(2)
        dead_letters.discard(dead_letters.dead_tasks().values_list("id", flat=True), reason="a test")
        assert tasks.tell_of_dead_letters.run() == 0
        assert not Notification.objects.exists()

    def test_the_names_of_many_are_few(self, manager):
        for place in range(5):
            self.die(1, f"tests.task_{place}")
        tasks.tell_of_dead_letters.run()
        assert Notification.objects.get().message.endswith(
            "tests.task_0 (1), tests.task_1 (1), tests.task_2 (1) and 2 other tasks."
        )
