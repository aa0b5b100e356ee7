"""What a live stream survives: invalid hints, rows that cannot be rendered, many streams opened at once."""

import asyncio
import json
import threading
from contextlib import ExitStack

import msgpack
import pytest
import redis
from django.db import connection
from websockets.exceptions import InvalidStatus

from notifications import feed as feed_module
from notifications.feed import Feed
from notifications.serializers import NotificationSerializer
from notifications.wakeup import bell
from tests.processes import wait_until
from tests.shop import api, check_out, make_cart, make_product, make_user, place_order
from tests.streams import GROUP, end, listeners, sse, sse_events, tell, websocket

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

POISON = [
    "text",
    7,
    None,
    ["news"],
    {},
    {"type": "of the next release"},
    {"type": "news", "orders": "1"},
    {"type": "news", "orders": {"1": 1}},
    {"type": "news", "orders": ["x"]},
    {"type": "news", "orders": [None, 1.5, True, -1, [2]]},
    {"type": "news", "orders": [{}]},
    {"type": "news", "orders": [2**63]},
    {"type": "news", "orders": list(range(1, 200_000))},
]


@pytest.mark.fault("F109")
def test_f109_hints_that_are_none_end_no_stream(web, reader):
    customer = reader.customer
    product = make_product()
    order = check_out(api(reader), make_cart({product: 1}, customer)).json()["id"]
    layer = redis.Redis(port=web.redis_port)
    with (
        sse(web, reader, after=0) as response,
        websocket(web, reader, after=0, events="order-tasks") as socket,
    ):
        events = (event for event in sse_events(response) if "data" in event)
        for hint in [*map(msgpack.packb, POISON), b"\xc1 no msgpack"]:
            wait_until("the web process listens", lambda: listeners(web) == 1)
            layer.publish(GROUP, hint)
            row = tell(reader, message=f"After {hint[:40]!r}.")
            assert json.loads(socket.recv(timeout=30))["id"] == row.pk
            assert next(events)["id"] == str(row.pk)
        wait_until("the web process listens again", lambda: listeners(web) == 1)
        bell.ring({order})
        assert json.loads(socket.recv(timeout=30)) == {"type": "order-tasks", "order": order}
        assert next(events)["event"] == "order-tasks"
    assert web.web.says("invalid hints")


def test_a_feed_that_fails_in_whatever_way_goes_on(reader, monkeypatch):
    failures = [ValueError("a row nobody expected"), KeyError("x"), MemoryError()]
    usual = feed_module.read_news

    def read_news(*args):
        if failures:
            raise failures.pop(0)
        return usual(*args)

    async def follow():
        feed = Feed()
        events = feed.follow(reader.pk, None)
        assert (await anext(events)).text == ""
        while failures:
            assert await anext(events) is None
        row = await asyncio.to_thread(tell_from_a_thread, reader)
        event = await anext(events)
        while event is None:
            event = await anext(events)
        assert event.id == row
        await events.aclose()
        await end(feed)

    monkeypatch.setattr(feed_module, "read_news", read_news)
    monkeypatch.setattr(feed_module, "PACE", 0.01)
    monkeypatch.setattr(feed_module, "HEARTBEAT", 0.05)
    asyncio.run(asyncio.wait_for(follow(), 30))


def tell_from_a_thread(user):
    try:
        return tell(user).pk
    finally:
        connection.close()


def test_a_notification_that_cannot_be_told_holds_up_no_other(reader, monkeypatch):
    first, bad, last = tell(reader), tell(reader, message="Bad."), tell(reader)
    usual = NotificationSerializer.to_representation

    def represent(self, instance):
        if instance.message == "Bad.":
            raise TypeError("no message")
        return usual(self, instance)

    monkeypatch.setattr(NotificationSerializer, "to_representation", represent)
    page, position, is_more = feed_module.read_page(reader.pk, 0)
    assert [event.id for event in page] == [first.pk, last.pk]
    assert (position, is_more) == (last.pk, False)
    news, position, is_more = feed_module.read_news({reader.pk}, 0)
    assert [event.id for _, event in news] == [first.pk, last.pk]
    assert (position, is_more) == (last.pk, False)
    assert bad.pk < position


def test_a_client_of_tokens_is_sent_notifications_and_nothing_else(web, reader):
    order = place_order(reader.customer).id
    with websocket(web, reader, after=0) as socket, sse(web, reader) as response:
        wait_until("the web process listens", lambda: listeners(web) == 1)
        bell.ring({order})
        events = sse_events(response)
        assert any(event.get("event") == "order-tasks" for event in events)
        row = tell(reader)
        assert json.loads(socket.recv(timeout=30))["id"] == row.pk


@pytest.mark.parametrize("way", ["sse", "websocket"])
def test_streams_that_are_opened_at_once_are_no_more_than_a_user_may_have(machine, way):
    machine.start_web(WEB_THREADS="12")
    for _ in range(3):
        # Another user each time: it takes a moment until the server knows that a stream is closed.
        reader = make_user()
        opened, barrier = [], threading.Barrier(12)
        with ExitStack() as stack:

            def open_one(stack=stack, opened=opened, barrier=barrier, reader=reader):
                barrier.wait(30)
                try:
                    if way == "sse":
                        opened.append(stack.enter_context(sse(machine, reader)).status_code)
                    else:
                        stack.enter_context(websocket(machine, reader))
                        opened.append(200)
                except InvalidStatus:
                    opened.append(429)

            threads = [threading.Thread(target=open_one) for _ in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert sorted(opened) == [200] * 5 + [429] * 7

    def has_room_again():
        with sse(machine, reader) as response:
            return response.status_code == 200

    wait_until("a closed stream makes room", has_room_again)
