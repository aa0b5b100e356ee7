"""An announcement to all users: each is notified once, at a constant cost per thousand."""

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain, enqueued
from notifications import tasks
from notifications.models import Announcement, Notification, NotificationDelivery, PushSubscription
from tests.shop import browser_of, make_manager, make_user

pytestmark = pytest.mark.django_db(transaction=True)

FAN_OUT = "notifications.tasks.fan_out_announcement"


def make_users(count):
    user = get_user_model()
    return user.objects.bulk_create(
        user(username=f"reader{number}", email=f"reader{number}@example.com") for number in range(count)
    )


def test_whoever_may_announce_does_so_in_the_admin_and_everybody_is_told_once(monkeypatch):
    monkeypatch.setattr(tasks, "FAN_OUT", 3)
    manager = make_manager()
    readers = [make_user() for _ in range(7)]
    make_user(is_active=False)
    browser = browser_of(manager)

    answer = browser.post("/admin/notifications/announcement/add/", {"message": "We are closed on Sunday."})

    assert answer.status_code == 302
    announcement = Announcement.objects.get()
    drain()
    announcement.refresh_from_db()
    told = Notification.objects.filter(kind="announcement")
    assert sorted(told.values_list("user_id", flat=True)) == sorted(user.pk for user in (manager, *readers))
    assert set(told.values_list("message", "sender_id")) == {("We are closed on Sunday.", manager.pk)}
    assert announcement.told_at is not None
    assert enqueued(FAN_OUT)[0].args == [announcement.pk]
    assert len(enqueued(FAN_OUT)) == 3

    tasks.fan_out_announcement.delay(announcement.pk)
    announcement.save()
    drain()
    assert told.count() == 8
    assert browser.post(f"/admin/notifications/announcement/{announcement.pk}/change/", {}).status_code == 403


def test_ten_thousand_are_told_with_as_many_queries_for_each_thousand():
    readers = make_users(10_000)
    PushSubscription.objects.bulk_create(
        PushSubscription(user=user, endpoint=f"https://fcm.googleapis.com/{user.pk}", p256dh="k", auth="s")
        for user in readers[::10]
    )
    DurableTask.objects.all().delete()
    announcement = Announcement.objects.create(message="We are closed on Sunday.")
    counts, after = [], 0
    while True:
        with CaptureQueriesContext(connection) as queries:
            told = tasks.fan_out_announcement(announcement.pk, after)
        if not told:
            break
        counts.append(len(queries))
        after = Notification.objects.latest("pk").user_id

    assert Notification.objects.count() == 10_000
    assert NotificationDelivery.objects.filter(channel="push").count() == 1_000
    assert DurableTask.objects.filter(name="notifications.tasks.push_notification").count() == 1_000
    assert len(counts) == 10
    assert len(set(counts)) == 1
    # SQLite takes fewer parameters, so that it has more INSERTs; see Django's bulk_batch_size.
    assert counts[0] <= (20 if connection.vendor == "postgresql" else 45)


def test_an_announcement_that_is_withdrawn_ends_the_telling():
    announcement = Announcement.objects.create(message="Oh.")
    announcement.delete()
    drain()
    assert not Notification.objects.exists()
