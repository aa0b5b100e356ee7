"""Notifications by mail and SMS: preferences, quiet hours, outcomes and unsubscribing."""

import re
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail as outbox
from django.core import signing
from django.test import Client
from django.utils import timezone

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain, enqueued, loud_receivers
from email_app.models import EmailDelivery
from notifications.announce import notify
from notifications.models import Channel, Kind, NotificationDelivery
from notifications.unsubscribe import SALT, address_for
from phones import sms
from phones.models import PhoneVerification
from tests.shop import api, make_user

pytestmark = pytest.mark.django_db(transaction=True)

PREFERENCES = "/api/notifications/preferences/"
MAIL = "email_app.tasks.send_notification"


@pytest.fixture(autouse=True)
def loud():
    with loud_receivers():
        yield


@pytest.fixture
def reader():
    """A user who wants announcements by mail and SMS."""
    user = make_user(first_name="Ada", email="ada@example.com")
    api(user).put(PREFERENCES, {"kinds": {"announcement": {"email": True, "sms": True}}})
    return user


@pytest.fixture
def folder(settings, tmp_path):
    settings.SMS_URL = f"file://{tmp_path}/sms"
    return tmp_path / "sms"


def verify_number(user, phone="+44 20 7946 0000"):
    user.customer.phone = phone
    user.customer.save()
    DurableTask.objects.all().delete()
    PhoneVerification.objects.filter(customer=user.customer).update(verified_at=timezone.now())


def tell(*users, message="There is <news>.", kind=Kind.ANNOUNCEMENT, key=None):
    notify([user.pk for user in users], kind=kind, message=message, key=key)


def mails():
    return [message for message in outbox.outbox if message.subject.startswith("There is")]


def became(channel):
    return NotificationDelivery.objects.get(channel=channel)


def test_a_notification_is_one_row_a_channel_and_one_mail(reader, folder):
    verify_number(reader)
    other = make_user()
    for _ in range(2):
        tell(reader, other, key="once")
    drain()
    assert sorted(NotificationDelivery.objects.values_list("channel", "status")) == [("email", "sent"), ("sms", "sent")]
    [message] = mails()
    assert message.to == ["ada@example.com"]
    assert "Hello Ada,\n\nThere is <news>." in message.body
    assert "There is &lt;news&gt;." in message.alternatives[0][0]
    [text] = folder.glob("*.txt")
    assert text.read_text() == "To: +442079460000\n\nShopwire: There is <news>.\n"
    assert EmailDelivery.objects.get(kind="notification").status == "sent"


def test_a_delivery_that_runs_twice_sends_once(reader, folder):
    verify_number(reader)
    tell(reader)
    drain()
    from email_app.tasks import send_notification
    from notifications.tasks import text_notification

    send_notification.delay(became("email").pk)
    text_notification.delay(became("sms").pk)
    drain()
    assert len(mails()) == 1
    assert len(list(folder.glob("*.txt"))) == 1


def test_a_number_that_is_not_verified_gets_nothing(reader, folder):
    reader.customer.phone = "+44 20 7946 0000"
    reader.customer.save()
    DurableTask.objects.all().delete()
    tell(reader)
    drain()
    assert (became("sms").status, became("sms").error) == ("skipped", "There is no verified number.")
    assert not folder.exists()


def test_what_was_read_meanwhile_leaves_the_shop_no_more(reader):
    tell(reader)
    api(reader).post("/api/notifications/read-all/")
    drain()
    assert {row.status for row in NotificationDelivery.objects.all()} == {"skipped"}
    assert mails() == []


def test_a_refused_mail_and_a_refused_text_are_dead_letters_and_their_rows_say_why(reader, monkeypatch):
    verify_number(reader)

    def refuse(*args, **kwargs):
        raise sms.SmsRefusedError("The SMS gateway refused the message: 422.")

    monkeypatch.setattr(sms, "send", refuse)
    reader.__class__.objects.filter(pk=reader.pk).update(email="no address")
    tell(reader)
    drain()
    assert (became("email").status, became("email").error) == (
        "failed",
        "The recipient's address is not a mail address.",
    )
    assert (became("sms").status, became("sms").error) == ("failed", "The SMS gateway refused the message: 422.")
    assert {task.status for name in (MAIL, "notifications.tasks.text_notification") for task in enqueued(name)} == {
        "dead"
    }


def test_a_gateway_that_is_away_is_tried_again_and_the_row_says_so(reader, monkeypatch, folder):
    verify_number(reader)
    send, failing = sms.send, [True]

    def fail_once(*args, **kwargs):
        if failing:
            raise sms.SmsDeferredError(f"Away. {failing.pop()}")
        send(*args, **kwargs)

    monkeypatch.setattr(sms, "send", fail_once)
    tell(reader)
    drain()
    assert (became("sms").status, became("sms").error) == ("pending", "Away. True")
    DurableTask.objects.filter(status="pending").update(available_at=timezone.now() - timedelta(seconds=1))
    drain()
    assert (became("sms").status, became("sms").error) == ("sent", "")


def test_quiet_hours_hold_back_what_leaves_the_shop_and_not_what_the_page_shows(reader):
    api(reader).put(PREFERENCES, {"quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/London"}})
    night = datetime(2030, 7, 1, 23, 30, tzinfo=UTC)  # Half past midnight in London.
    with time_machine.travel(night, tick=False):
        tell(reader)
    [task] = enqueued(MAIL)
    assert task.available_at == datetime(2030, 7, 2, 6, 0, tzinfo=UTC)
    drain()
    assert became("email").status == "pending"
    assert api(reader).get("/api/notifications/").json()["count"] == 1
    with time_machine.travel(datetime(2030, 7, 2, 12, 0, tzinfo=UTC), tick=False):
        tell(reader)
    assert enqueued(MAIL)[1].available_at < timezone.now() + timedelta(minutes=1)


def test_the_cost_of_telling_a_thousand_does_not_grow_with_them(reader, django_assert_max_num_queries):
    few = [make_user() for _ in range(3)]
    many = [*few, *(make_user() for _ in range(40))]
    for user in many:
        api(user).put(PREFERENCES, {"kinds": {"announcement": {"email": True}}})
    for readers in (few, many):
        with django_assert_max_num_queries(16):
            tell(*readers)
    assert NotificationDelivery.objects.filter(channel=Channel.EMAIL).count() == 3 + 43
    assert len(enqueued(MAIL)) == 46


# --- The way out --------------------------------------------------------------------------


def test_every_mail_has_a_way_out_that_needs_one_click_and_no_login(reader):
    tell(reader)
    drain()
    [message] = mails()
    headers = message.extra_headers
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    way_out = headers["List-Unsubscribe"].strip("<>")
    assert way_out in message.body
    assert way_out in message.alternatives[0][0]
    path = re.sub(r"^https?://[^/]+", "", way_out)
    assert len(path) < 200

    program = Client(enforce_csrf_checks=True)
    looked = program.get(path)
    assert looked.status_code == 200
    assert b"announcement" in looked.content
    assert api(reader).get(PREFERENCES).json()["kinds"]["announcement"]["email"] is True

    body = "List-Unsubscribe=One-Click"
    for _ in range(2):
        done = program.post(path, body, content_type="application/x-www-form-urlencoded")
        assert done.status_code == 200
        assert not done.cookies
    kinds = api(reader).get(PREFERENCES).json()["kinds"]
    assert kinds["announcement"] == {"in_app": True, "email": False, "push": True, "sms": True}
    tell(reader)
    assert NotificationDelivery.objects.filter(channel="email").count() == 1


def test_a_way_out_that_is_forged_leads_nowhere(reader):
    good = re.sub(r"^https?://[^/]+", "", address_for(reader.pk, "announcement"))
    user, kind = reader.pk, "announcement"
    forged = [
        good[:-2] + ("A/" if good[-2] != "A" else "B/"),
        f"/unsubscribe/{signing.dumps([user, kind], salt='another')}/",
        f"/unsubscribe/{signing.dumps([user, 'no such kind'], salt=SALT)}/",
        f"/unsubscribe/{signing.dumps([10**9, kind], salt=SALT)}/",
        "/unsubscribe/x/",
        "/unsubscribe/%00/",
    ]
    for path in forged:
        for method in ("get", "post"):
            assert getattr(Client(), method)(path).status_code == 404, path
    assert api(reader).get(PREFERENCES).json()["kinds"]["announcement"]["email"] is True
    assert Client().put(good).status_code == 405
