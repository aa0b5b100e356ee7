"""Messages between users: over HTTP, in the admin, and the notifications about them."""

import pytest

from celery_ledger.testing import drain, enqueued
from messaging.models import Message
from notifications.models import Notification
from tests.shop import api, browser_of, make_manager, make_user

pytestmark = pytest.mark.django_db(transaction=True)

MESSAGES = "/api/messages/"


@pytest.fixture
def grace():
    return make_user(username="grace")


@pytest.fixture
def alan():
    return make_user(username="alan")


def write(sender, receiver, content="Is the parcel there?"):
    return api(sender).post(MESSAGES, {"receiver": receiver, "content": content})


def test_a_message_is_in_both_boxes_and_its_receipt_is_seen_by_its_sender(grace, alan):
    answer = write(grace, "alan")
    assert answer.status_code == 201, answer.content
    message = answer.json()
    assert set(message) == {"id", "sender", "receiver", "content", "timestamp", "read_at"}
    assert (message["sender"], message["receiver"], message["read_at"]) == ("grace", "alan", None)

    assert api(alan).get(MESSAGES).json()["results"] == [message]
    assert api(grace).get(MESSAGES).json()["results"] == []
    assert api(grace).get(MESSAGES, {"box": "sent"}).json()["results"] == [message]
    assert api(alan).get(MESSAGES, {"box": "attic"}).status_code == 400

    assert api(grace).post(f"{MESSAGES}{message['id']}/read/").status_code == 404
    assert api(make_user()).post(f"{MESSAGES}{message['id']}/read/").status_code == 404
    read = api(alan).post(f"{MESSAGES}{message['id']}/read/").json()
    assert read["read_at"] is not None
    assert api(alan).post(f"{MESSAGES}{message['id']}/read/").json() == read
    assert api(grace).get(MESSAGES, {"box": "sent"}).json()["results"] == [read]


def test_its_receiver_is_notified_once_when_it_is_written_and_not_when_it_is_read(grace, alan):
    message = write(grace, "alan", "word " * 30).json()
    drain()
    told = Notification.objects.get()
    assert (told.user, told.sender, told.kind, told.data) == (alan, grace, "message", {"message": message["id"]})
    assert told.message == f"grace wrote: {('word ' * 30)[:49]}…"

    Message.objects.get().mark_as_read()
    Message.objects.get().save()
    drain()
    assert len(enqueued("notifications.tasks.announce_message")) == 1
    assert Notification.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"receiver": "grace", "content": "To myself."}, "/receiver"),
        ({"receiver": "nobody", "content": "?"}, "/receiver"),
        ({"receiver": "gone", "content": "?"}, "/receiver"),
        ({"receiver": "", "content": "?"}, "/receiver"),
        ({"receiver": None, "content": "?"}, "/receiver"),
        ({"receiver": 1, "content": "?"}, "/receiver"),
        ({"receiver": "al\x00an", "content": "?"}, None),
        ({"receiver": "a" * 151, "content": "?"}, "/receiver"),
        ({"content": "?"}, "/receiver"),
        ({"receiver": "alan", "content": ""}, "/content"),
        ({"receiver": "alan", "content": "   "}, "/content"),
        ({"receiver": "alan", "content": "x" * 2_001}, "/content"),
        ({"receiver": "alan", "content": ["x"]}, "/content"),
        ({"receiver": "alan", "content": "x", "sender": "alan"}, "/sender"),
        ({"receiver": "alan", "content": "x", "read_at": None}, "/read_at"),
    ],
)
def test_what_is_no_message_is_refused_by_name(grace, alan, body, pointer):
    make_user(username="gone", is_active=False)
    answer = api(grace).post(MESSAGES, body)
    assert answer.status_code == 400, answer.content
    if pointer:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert not Message.objects.exists()


def test_the_longest_message_fits(grace, alan):
    assert write(grace, "alan", "ü" * 2_000).status_code == 201


def test_who_is_blocked_cannot_write_and_is_not_written_to(grace, alan):
    block = api(alan).post(f"{MESSAGES}blocks/", {"username": "grace"})
    assert block.status_code == 201
    assert api(alan).post(f"{MESSAGES}blocks/", {"username": "grace"}).json() == block.json()
    assert api(alan).post(f"{MESSAGES}blocks/", {"username": "alan"}).status_code == 400
    assert [row["username"] for row in api(alan).get(f"{MESSAGES}blocks/").json()["results"]] == ["grace"]
    assert api(grace).get(f"{MESSAGES}blocks/").json()["results"] == []

    for answer in (write(grace, "alan"), write(alan, "grace")):
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:shopwire:problem:blocked"
    assert not Message.objects.exists()

    address = f"{MESSAGES}blocks/{block.json()['id']}/"
    assert api(grace).delete(address).status_code == 404
    assert api(alan).delete(address).status_code == 204
    assert write(grace, "alan").status_code == 201


def test_writing_is_throttled_and_reading_is_not(grace, alan, settings):
    settings.THROTTLE_RATES = settings.THROTTLE_RATES | {"messages": (2, 86_400)}
    answers = [write(grace, "alan") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert int(answers[2].headers["Retry-After"]) > 0
    assert api(grace).get(MESSAGES).status_code == 200
    assert write(alan, "grace").status_code == 201


def test_the_admin_filters_by_both_people_and_time_searches_and_shows_a_preview(grace, alan):
    content = "A needle in the hay, and a great deal more hay than anybody asked for."
    write(grace, "alan", content)
    write(alan, "grace", "Nothing.")
    staff = browser_of(make_manager())
    pages = "/admin/messaging/message/"

    def shown(**query):
        page = staff.get(pages, query)
        assert page.status_code == 200
        return {message.sender.username for message in page.context["cl"].result_list}

    assert f"{content[:49]}…" in staff.get(pages).content.decode()
    assert shown() == {"grace", "alan"}
    assert shown(q="needle") == {"grace"}
    assert shown(q="gra") == {"grace", "alan"}
    assert shown(sender__id__exact=alan.pk) == {"alan"}
    assert shown(receiver__id__exact=alan.pk) == {"grace"}
    assert shown(timestamp__gte="2100-01-01 00:00:00+00:00") == set()
    message = Message.objects.first()
    assert staff.get(f"{pages}{message.pk}/change/").status_code == 200
    assert staff.post(f"{pages}{message.pk}/change/", {"content": "Forged."}).status_code == 403
