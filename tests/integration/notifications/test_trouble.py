"""Managers are told what is wrong without Prometheus: gathered, once an hour, and escalated if no manager reads it."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.db.models import F
from django.utils import timezone

from celery_ledger.models import DurableTask, FailedAttempt
from celery_ledger.watch import watchdog
from celery_ledger.watch.watchdog import Problem
from email_app import notification_mail
from notifications import tasks, trouble, urgent
from notifications.models import Notification, NotificationDelivery, NotificationPreference, QuietHours
from tests.shop import api, make_user

pytestmark = pytest.mark.django_db(transaction=True)
SILENT = Problem("workers", "worker 7 at host has been silent since 10:00:00 UTC", stalled="worker 7 at host")
UNHEARD = Problem("queues", "no worker has taken messages from email for 61 s")


@pytest.fixture
def manager():
    user = make_user()
    user.groups.add(Group.objects.get_or_create(name="managers")[0])
    return user


@pytest.fixture
def superuser():
    return make_user(is_superuser=True)


@pytest.fixture
def wrong(monkeypatch):
    """What is wrong: a list to change."""
    found: list[Problem] = []
    monkeypatch.setattr(watchdog, "LOOKS", {"all": lambda: list(found)})
    return found


def pass_time(**span):
    Notification.objects.update(created=F("created") - timedelta(**span), key=None)


def told(user):
    return list(Notification.objects.filter(user=user, kind="trouble").order_by("pk").values_list("message", flat=True))


def test_nothing_is_told_while_all_is_well(manager, wrong):
    assert tasks.tell_of_trouble.run() == 0
    assert not Notification.objects.exists()


def test_what_is_wrong_is_gathered_and_told_once_an_hour(manager, superuser, wrong):
    wrong += [SILENT, UNHEARD]
    assert tasks.tell_of_trouble.run() == 2
    assert told(manager) == [f"{UNHEARD.text}. {SILENT.text}."]
    wrong[1] = Problem("queues", "no worker has taken messages from email for 3600 s")
    assert tasks.tell_of_trouble.run() == 0

    pass_time(minutes=10)
    wrong.append(Problem("relay", "no relay is running"))
    assert tasks.tell_of_trouble.run() == 1
    assert told(manager)[1:] == ["no relay is running."]
    assert told(superuser) == []

    pass_time(minutes=51)
    assert tasks.tell_of_trouble.run() == 2
    assert len(told(manager)) == 3


def test_a_task_that_fails_is_told_of_when_it_has_failed_for_two_minutes(manager, wrong):
    task = DurableTask.objects.create(name="tests.mail", queue="email", status="pending")
    attempt = FailedAttempt.objects.create(task=task, number=1, error="OSError: the post is closed")
    assert tasks.tell_of_trouble.run() == 0
    FailedAttempt.objects.filter(pk=attempt.pk).update(failed_at=timezone.now() - timedelta(minutes=3))
    assert tasks.tell_of_trouble.run() == 1
    [message] = told(manager)
    assert message.startswith("tests.mail has failed for 3 minutes")


class TestEscalation:
    def test_what_stays_and_nobody_has_read_is_told_to_the_superusers_once(self, manager, superuser, wrong):
        wrong.append(SILENT)
        tasks.tell_of_trouble.run()
        pass_time(minutes=29)
        tasks.tell_of_trouble.run()
        assert told(superuser) == []
        pass_time(minutes=2)
        for _ in range(2):
            tasks.tell_of_trouble.run()
            pass_time(minutes=1)
        assert told(superuser) == [f"No manager has read this for 30 minutes. {SILENT.text}."]
        assert len(told(manager)) == 1

    def test_what_a_manager_has_read_is_not(self, manager, superuser, wrong):
        wrong.append(SILENT)
        tasks.tell_of_trouble.run()
        Notification.objects.update(read=True)
        pass_time(minutes=31)
        tasks.tell_of_trouble.run()
        assert told(superuser) == []

    def test_what_is_over_is_not(self, manager, superuser, wrong):
        wrong.append(SILENT)
        tasks.tell_of_trouble.run()
        wrong.clear()
        pass_time(minutes=31)
        tasks.tell_of_trouble.run()
        assert told(superuser) == []

    def test_where_there_are_no_managers_superusers_are_told(self, superuser, wrong):
        wrong.append(SILENT)
        tasks.tell_of_trouble.run()
        assert told(superuser) == [f"{SILENT.text}."]


def test_it_comes_by_the_managers_channels_after_their_quiet_hours(manager, wrong):
    NotificationPreference.objects.create(user=manager, kind="trouble", channel="email", enabled=True)
    now = timezone.now()
    start, end = (now - timedelta(hours=1)).time(), (now + timedelta(hours=1)).time()
    QuietHours.objects.create(user=manager, start=start, end=end, time_zone="UTC")
    wrong.append(SILENT)
    tasks.tell_of_trouble.run()

    assert [delivery.channel for delivery in NotificationDelivery.objects.all()] == ["email"]
    mail = DurableTask.objects.get(name="email_app.tasks.send_notification")
    assert mail.available_at > now + timedelta(minutes=50)


class TestUrgent:
    """No task would be run: deliveries are made by the process that notices."""

    @pytest.fixture
    def readers(self, manager):
        others = [make_user() for _ in range(2)]
        for user in others:
            user.groups.add(*manager.groups.all())
        for user in (manager, *others):
            NotificationPreference.objects.create(user=user, kind="trouble", channel="email", enabled=True)
        return [manager, *others]

    def test_all_are_told_at_once_but_who_has_quiet_hours(self, readers):
        now = timezone.now()
        start, end = (now - timedelta(hours=1)).time(), (now + timedelta(hours=1)).time()
        QuietHours.objects.create(user=readers[1], start=start, end=end, time_zone="UTC")
        for _ in range(2):
            urgent.tell_of_missing("worker")
        assert [told(reader) for reader in readers] == [["no worker is running."]] * 3
        assert sorted(sent.to for sent in mail.outbox) == sorted([[readers[0].email], [readers[2].email]])
        assert DurableTask.objects.filter(name="email_app.tasks.send_notification").count() == 3

    def test_one_that_cannot_be_made_holds_up_no_other_and_is_tried_again(self, readers, monkeypatch):
        tries = []

        def fail_first(delivery_id):
            tries.append(delivery_id)
            if len(tries) == 1:
                raise OSError("The mail server is away.")
            notification_mail.send(delivery_id)

        monkeypatch.setitem(urgent._ways, "email", fail_first)
        urgent.tell_of_missing("relay")
        assert len(mail.outbox) == 2
        urgent.tell_of_missing("relay")
        assert len(mail.outbox) == 3
        assert tries[-1] == tries[0]


class TestTheTest:
    def test_it_goes_over_the_channels_that_are_on(self, superuser):
        staff = make_user(is_staff=True)
        NotificationPreference.objects.create(user=staff, kind="trouble", channel="email", enabled=True)
        NotificationPreference.objects.create(user=staff, kind="trouble", channel="push", enabled=False)
        answer = api(staff).post("/api/notifications/test/", {})

        assert (answer.status_code, answer.json()) == (201, {"channels": ["in_app", "email"]})
        assert told(staff) == ["This is a test. Alerts about the operation of the shop reach you in this way."]
        assert told(superuser) == []
        assert DurableTask.objects.filter(name="email_app.tasks.send_notification").count() == 1

    def test_it_hides_nothing_that_is_wrong(self, manager, superuser, wrong):
        trouble.test(manager.pk)
        pass_time(minutes=31)
        wrong.append(SILENT)
        assert tasks.tell_of_trouble.run() == 1
        assert told(superuser) == []

    def test_it_is_for_staff(self):
        user = make_user()
        assert api(user).post("/api/notifications/test/", {}).status_code == 403
        assert told(user) == []
