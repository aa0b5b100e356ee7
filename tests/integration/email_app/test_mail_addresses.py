"""A new address receives a request to confirm it, and nothing else until it is confirmed."""

import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core import mail as outbox
from django.core.cache import cache
from django.core.management import call_command
from django.utils import timezone

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from email_app import delivery
from email_app.models import AddressClaim, EmailDelivery
from notifications.models import NotificationDelivery
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product

pytestmark = pytest.mark.django_db(transaction=True)

STRANGER = "stranger@example.com"
ACCOUNT = {"username": "mallory", "email": STRANGER, "password": "correct horse battery"}


@pytest.fixture(autouse=True)
def nothing_counted():
    cache.clear()


@pytest.fixture
def mallory():
    """A client who registered with an address that is not hers."""
    assert api().post("/api/users/", ACCOUNT, format="json").status_code == 201
    return api(get_user_model().objects.get(username="mallory"))


def read(address=STRANGER):
    """Deliver what is due, and return what came to an address."""
    drain()
    return [message for message in outbox.outbox if message.to == [address]]


def whole(message):
    return f"{message.subject}\n{message.body}\n{message.alternatives[0][0]}"


def token_in(message):
    token = re.search(r"/verify-email\?token=(\S+)", message.body)[1]
    assert f"/verify-email?token={token}" in message.alternatives[0][0]
    return token


def verify(token):
    return api().post("/api/auth/email/verify/", {"token": token}, format="json")


def order(client, product=None):
    answer = check_out(client, make_cart({product or make_product(): 1}))
    assert answer.status_code == 201
    return answer.json()["id"]


@pytest.mark.fault("F101")
def test_a_stranger_whose_address_was_given_reads_no_word_of_the_one_who_gave_it(mallory):
    names = {"first_name": "Win 1000 now", "last_name": "at evil dot example"}
    assert mallory.patch("/api/customers/me/", names, format="json").status_code == 200
    number = order(mallory, make_product(title="Cheap pills"))
    mallory.post(f"/api/orders/{number}/cancel/")
    messages = read()
    assert [message.subject for message in messages] == [
        "Welcome to Shopwire",
        f"Order {number}: please confirm your email address",
        f"Order {number}: please confirm your email address",
    ]
    for message in messages:
        assert token_in(message)
        for word in ("mallory", "Win 1000", "evil", "pills"):
            assert word not in whole(message)
    assert not EmailDelivery.objects.filter(order=number, stand_in=False).exists()
    call_command("outbox", "verify")


def test_a_verified_address_is_sent_what_waited_for_it_and_everything_after(mallory):
    first = order(mallory)
    welcome, _ = read()
    assert verify(token_in(welcome)).json() == {"verified": True}
    assert f"your order {first}" in read()[-1].body
    second = order(mallory)
    assert f"your order {second}" in read()[-1].body
    assert len(read()) == 4
    mails = EmailDelivery.objects.filter(kind="order_confirmation")
    assert {(mail.order_id, mail.status, mail.stand_in) for mail in mails} == {
        (first, "sent", False),
        (second, "sent", False),
    }
    confirmations = mallory.get(f"/api/orders/{first}/tasks/").json()["results"]
    assert [task["status"] for task in confirmations if task["task"].endswith("order_confirmation")] == [
        "succeeded"
    ] * 2
    call_command("outbox", "verify")


def test_what_waited_for_longer_than_a_week_is_not_sent_any_more(mallory):
    order(mallory)
    read()
    with time_machine.travel(timezone.now() + timedelta(days=8)):
        assert mallory.post("/api/auth/email/resend/").status_code == 202
        assert verify(token_in(read()[-1])).json() == {"verified": True}
        assert len(read()) == 3


def test_no_more_than_so_many_mails_a_day_come_to_who_did_not_ask_for_them(mallory, monkeypatch):
    monkeypatch.setattr(delivery, "UNVERIFIED_A_DAY", 3)
    numbers = [order(mallory) for _ in range(5)]
    assert len(read()) == 3
    mails = EmailDelivery.objects.filter(kind="order_confirmation")
    assert mails.filter(status="held", sent_at=None).count() == 3
    assert not DurableTask.objects.exclude(status="succeeded").exists()
    call_command("outbox", "verify")
    assert verify(token_in(read()[0])).status_code == 200
    assert len(read()) == 3 + len(numbers)
    call_command("outbox", "verify")


def test_a_link_works_once_and_not_for_ever_and_not_with_another_letter(mallory):
    [welcome] = read()
    token = token_in(welcome)
    for bad in (token[:-1] + ("a" if token[-1] != "a" else "b"), "x", "x:y:z", "\u00e9"):
        refused = verify(bad)
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:shopwire:problem:no-good-link")
    with time_machine.travel(timezone.now() + timedelta(days=3, minutes=1)):
        assert verify(token).status_code == 400
    assert mallory.get("/api/auth/email/").json()["verified"] is False
    answers = all_at_once([lambda: verify(token)] * 4)
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    assert mallory.get("/api/auth/email/").json() == {"email": STRANGER, "verified": True, "wished": None}


def test_whoever_mistyped_the_address_gives_another_and_the_first_link_is_dead(mallory):
    [welcome] = read()
    assert mallory.patch("/api/customers/me/", {"email": "right@example.com"}, format="json").json()["email"] == (
        "right@example.com"
    )
    [check] = read("right@example.com")
    assert verify(token_in(welcome)).status_code == 400
    assert verify(token_in(check)).json() == {"verified": True}
    assert len(read()) == 1


def test_a_mail_that_waits_for_its_server_does_not_go_to_an_address_that_was_left(mallory):
    number = order(mallory)
    EmailDelivery.objects.create(kind="order_confirmation", order_id=number, recipient=STRANGER, message_id="<1@x>")
    mallory.patch("/api/customers/me/", {"email": "right@example.com"}, format="json")
    assert not [message for message in read() if "Order" in message.subject]
    assert {message.subject.partition(" ")[0] for message in read("right@example.com")} == {
        "Welcome",
        "Please",
        "Order",
    }


@pytest.mark.fault("F101")
def test_a_verified_address_is_left_only_when_both_say_so():
    customer = make_customer(email="old@example.com", password="correct horse battery")
    client, wish = api(customer), {"password": "correct horse battery", "email": "new@example.com"}
    drain()
    outbox.outbox.clear()
    assert client.post("/api/auth/email/change/", wish | {"password": "wrong"}, format="json").status_code == 400
    answer = client.post("/api/auth/email/change/", wish, format="json")
    waiting = {"email": "old@example.com", "verified": True, "wished": "new@example.com"}
    assert (answer.status_code, answer.json()) == (202, waiting)
    [old], [new] = read("old@example.com"), read("new@example.com")
    assert verify(token_in(new)).json() == {"verified": False}
    assert verify(token_in(new)).status_code == 400
    assert client.get("/api/auth/email/").json() == waiting
    number = order(client)
    assert f"order {number}" in read("old@example.com")[-1].body
    assert verify(token_in(old)).json() == {"verified": True}
    assert client.get("/api/auth/email/").json() == {"email": "new@example.com", "verified": True, "wished": None}
    assert len(read("new@example.com")) == 1


def test_the_profile_changes_an_address_no_faster():
    customer = make_customer(email="old@example.com")
    answer = api(customer).patch("/api/customers/me/", {"email": "new@example.com"}, format="json")
    assert (answer.status_code, answer.json()["email"]) == (200, "old@example.com")
    assert len(read("old@example.com")) == 2  # The welcome, and the question.
    assert len(read("new@example.com")) == 1


def test_an_address_that_another_took_meanwhile_is_not_changed_to():
    customer = make_customer(email="old@example.com")
    api(customer).patch("/api/customers/me/", {"email": "new@example.com"}, format="json")
    assert len(read("old@example.com")) == 2  # The welcome, and the question, in any order.
    [question] = [mail for mail in read("old@example.com") if "/verify-email?token=" in mail.body]
    tokens = [token_in(question), token_in(read("new@example.com")[-1])]
    make_customer(email="New@example.com")
    assert [verify(token).status_code for token in tokens] == [200, 400]
    customer.user.refresh_from_db()
    assert customer.user.email == "old@example.com"


def test_nobody_has_more_than_five_such_mails_sent_an_hour():
    client = api(make_customer())
    answers = [client.patch("/api/customers/me/", {"email": f"victim{n}@example.com"}, format="json") for n in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert client.post("/api/auth/email/resend/").status_code == 429
    drain()
    assert EmailDelivery.objects.filter(kind="address_check", status="sent").count() <= 5
    with time_machine.travel(timezone.now() + timedelta(minutes=61)):
        assert client.post("/api/auth/email/resend/").status_code == 202


def test_there_is_nothing_to_send_again_to_a_verified_address():
    refused = api(make_customer()).post("/api/auth/email/resend/")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:shopwire:problem:nothing-to-confirm")


def test_the_password_that_is_asked_for_again_cannot_be_tried_out(settings):
    settings.AXES_FAILURE_LIMIT = 3
    client = api(make_customer(password="correct horse battery"))
    wish = {"password": "wrong", "email": "new@example.com"}
    answers = [client.post("/api/auth/email/change/", wish, format="json").status_code for _ in range(4)]
    assert answers[0] == 400
    assert answers[-1] == 429


def test_notifications_by_mail_do_not_go_to_an_address_that_is_not_verified(mallory):
    wishes = {"kinds": {"message": {"email": True}}}
    assert mallory.put("/api/notifications/preferences/", wishes, format="json").status_code == 200
    message = {"receiver": "mallory", "content": "http://evil.example/"}
    assert api(make_customer()).post("/api/messages/", message, format="json").status_code == 201
    assert [message.subject for message in read()] == ["Welcome to Shopwire"]
    [row] = NotificationDelivery.objects.filter(channel="email")
    assert (row.status, row.error) == ("skipped", "The address is not verified.")


def test_addresses_that_the_shop_entered_count_as_verified():
    customer = make_customer(email="known@example.com")
    assert not AddressClaim.objects.exists()
    number = order(api(customer))
    assert f"your order {number}" in read("known@example.com")[-1].body


@pytest.mark.fault("F101")
@pytest.mark.parametrize(
    "name",
    [
        "http://evil.example",
        "evil.example",
        "Visit evil.example/win now",
        "t.co",
        "www.evil.example.",
        "evil\uff0eexample",
        "evil\u3002example",
        "a@evil.example",
        "//192.0.2.1",
        "192.0.2.1",
        "Ada \u202egnik",
        "Ada\x00",
        "Ada\r\nBcc: x",
        "C:\\temp",
        "javascript:alert(1)/",
    ],
)
@pytest.mark.parametrize("field", ["first_name", "last_name"])
def test_a_name_with_a_web_address_or_a_control_character_is_a_400(field, name):
    answer = api(make_customer()).patch("/api/customers/me/", {field: name}, format="json")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Ada",
        "Ada King jr.",
        "J.R.R.",
        "J.R.R. Tolkien",
        "J. S.",
        "Zo\u00eb O'Neil \U0001f600",
        "\u5f20\u4f1f",
        "Dr. (h.c.) Ada",
        "St. John, Lord",
        "\u00c9.\u00c9. Zola",
    ],
)
def test_names_of_people_are_taken(name):
    answer = api(make_customer()).patch("/api/customers/me/", {"first_name": name}, format="json")
    assert (answer.status_code, answer.json()["first_name"]) == (200, name.strip())
