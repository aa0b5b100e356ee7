"""Live streams of a real web process: who may open one, what it carries, and what it leaves behind."""

import asyncio
import json
import threading
import time
from contextlib import ExitStack

import httpx
import pytest
from django.db import connection, transaction
from websockets.exceptions import ConnectionClosed, InvalidStatus

from notifications.announce import notify
from notifications.models import Kind
from tests.processes import wait_until
from tests.shop import api, browser_of, make_customer, make_user, place_order
from tests.streams import Follower, end, listeners, sse, sse_events, tell, token_of, websocket

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


# --- What they carry ----------------------------------------------------------------------


def test_an_event_stream_begins_now_says_where_and_carries_what_the_list_says(web, reader):
    before = tell(reader)
    with sse(web, reader) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["X-Request-ID"]
        assert "no-cache" in response.headers["Cache-Control"]
        events = sse_events(response)
        assert next(events) == {"retry": "2000"}
        assert next(events) == {"id": str(before.pk)}
        tell(make_user())
        row = tell(reader)
        event = next(events)
    assert set(event) == {"id", "data"}
    assert event["id"] == str(row.pk)
    assert json.loads(event["data"]) == api(reader).get("/api/notifications/").json()["results"][0]


def test_a_websocket_carries_the_same_as_frames(web, reader):
    before = tell(reader)
    with websocket(web, reader, after=0) as socket:
        assert socket.subprotocol == "bearer"
        assert json.loads(socket.recv(timeout=30))["id"] == before.pk
        socket.send("whatever a client says")
        row = tell(reader)
        assert json.loads(socket.recv(timeout=30)) == api(reader).get("/api/notifications/").json()["results"][0]
    with websocket(web, reader, after=before.pk) as socket:
        assert json.loads(socket.recv(timeout=30))["id"] == row.pk


def test_both_go_on_after_an_id_without_a_gap_and_show_nobody_elses(web, reader):
    other = make_user()
    mine = [tell(reader, other).pk and reader.notifications.latest("pk").pk for _ in range(3)]
    with sse(web, reader, after=mine[0]) as response:
        events = (event for event in sse_events(response) if "data" in event)
        assert [int(next(events)["id"]) for _ in range(2)] == mine[1:]
    with websocket(web, reader, after=mine[0]) as socket:
        assert [json.loads(socket.recv(timeout=30))["id"] for _ in range(2)] == mine[1:]
    # Another's id is a place in the order like any other.
    theirs = other.notifications.order_by("pk").first().pk
    with websocket(web, reader, after=theirs) as socket:
        expected = [id for id in mine if id > theirs]
        assert [json.loads(socket.recv(timeout=30))["id"] for _ in expected] == expected


def test_what_its_reader_does_not_want_in_the_shop_is_not_carried(web, reader):
    api(reader).put("/api/notifications/preferences/", {"kinds": {"announcement": {"in_app": False}}})
    with websocket(web, reader, after=0) as socket:
        tell(reader)
        notify([reader.pk], kind=Kind.MESSAGE, message="Shown.")
        assert json.loads(socket.recv(timeout=30))["message"] == "Shown."


# --- Who may ----------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer no.real.token"}, {"Cookie": "sessionid=forged"}])
def test_an_event_stream_is_for_whoever_is_signed_in(web, headers):
    with sse(web, None, **headers) as response:
        assert response.status_code == 401
        assert response.read()
        assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 19, "٣"])
def test_a_cursor_that_is_none_is_refused(web, reader, cursor):
    address = f"http://127.0.0.1:{web.web_port}/api/notifications/sse/"
    answer = httpx.get(address, params={"after": cursor}, headers={"Authorization": f"Bearer {token_of(reader)}"})
    assert answer.status_code == 400
    with pytest.raises(InvalidStatus, match="403"):
        websocket(web, reader, after=httpx.QueryParams({"c": cursor})["c"].encode().hex() + "x")


def test_a_session_opens_both_and_a_websocket_only_for_a_page_of_ours(web, reader):
    browser = browser_of(reader)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"
    tell(reader)
    with sse(web, None, after=0, Cookie=cookie) as response:
        assert next(event["id"] for event in sse_events(response) if "data" in event)
    ours = f"http://127.0.0.1:{web.web_port}"
    with websocket(web, after=0, additional_headers={"Cookie": cookie}, origin=ours) as socket:
        assert json.loads(socket.recv(timeout=30))["message"] == "News."
    for origin in (
        "https://evil.example",
        f"{ours}.evil.example",
        "null",
        "file://",
        f"ftp://127.0.0.1:{web.web_port}",
        None,
    ):
        with pytest.raises(InvalidStatus, match="403"):
            websocket(web, additional_headers={"Cookie": cookie}, origin=origin)


def test_a_token_opens_a_websocket_but_for_a_page_that_is_not_ours(web, reader):
    with websocket(web, reader, origin=f"http://127.0.0.1:{web.web_port}"), websocket(web, reader):
        pass
    with pytest.raises(InvalidStatus, match="403"):
        websocket(web, reader, origin="https://evil.example")
    for subprotocols in (["bearer"], ["bearer", "no.real.token"], ["basic", token_of(reader)], None):
        with pytest.raises(InvalidStatus, match="403"):
            websocket(web, subprotocols=subprotocols)


def test_a_user_who_may_no_longer_sign_in_opens_nothing(web, reader):
    reader.is_active = False
    reader.save()
    with sse(web, reader) as response:
        assert response.status_code == 401
    with pytest.raises(InvalidStatus, match="403"):
        websocket(web, reader)


def test_there_is_a_websocket_at_one_address_only(web, reader):
    from websockets.sync.client import connect

    for path in ("", "ws/", "ws/notifications", "ws/notifications/1/", "%00"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://127.0.0.1:{web.web_port}/{path}", subprotocols=["bearer", token_of(reader)])
    assert not web.web.says("Traceback")


def test_a_stream_ends_when_its_session_does(reader, monkeypatch):
    """In this process: the moments between two looks are too long to wait for."""
    from notifications import streams
    from notifications.feed import Feed

    async def follow():
        feed = Feed()
        monkeypatch.setattr(streams, "feed", feed)
        monkeypatch.setattr(streams, "RECHECK", 0)
        monkeypatch.setattr("notifications.feed.HEARTBEAT", 0.01)
        allowed = [True, True, False]
        seen = [event async for event in streams.while_allowed(reader.pk, None, is_allowed=lambda: allowed.pop(0))]
        assert feed.streams_of(reader.pk) == 0
        await end(feed)
        return seen

    assert len(asyncio.run(asyncio.wait_for(follow(), 30))) == 2


# --- What they hold, and leave behind ---------------------------------------------------------


def test_a_user_has_so_many_streams_and_a_closed_one_makes_room(web, reader):
    with ExitStack() as stack:
        streams = [sse_events(stack.enter_context(sse(web, reader))) for _ in range(5)]
        for stream in streams:
            next(stream)
        with sse(web, reader) as sixth:
            assert sixth.status_code == 429
            assert int(sixth.headers["Retry-After"]) > 0
        with pytest.raises(InvalidStatus, match="403"):
            websocket(web, reader)
        with websocket(web, make_user()):
            pass

    def is_let_in():
        with sse(web, reader) as response:
            return response.status_code == 200

    wait_until("closed streams make room", is_let_in, seconds=20)


def test_forty_streams_leave_threads_and_connections_to_others_and_one_listener(web):
    with ExitStack() as stack:
        readers = [make_user() for _ in range(20)]
        streams = [sse_events(stack.enter_context(sse(web, user))) for user in readers]
        sockets = [stack.enter_context(websocket(web, user)) for user in readers]
        for stream in streams:
            assert next(stream) == {"retry": "2000"}
            assert "id" in next(stream)
        began = wait_until(
            "the API answers",
            lambda: httpx.get(f"http://127.0.0.1:{web.web_port}/api/products/", timeout=30).is_success,
        )
        assert began < 15
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
                assert cursor.fetchone()[0] <= 10 + 2 + 2  # WEB_THREADS, the feed's, the test's own.
        assert listeners(web) == 1
        tell(*readers)
        assert all("data" in next(stream) for stream in streams)
        assert all(json.loads(socket.recv(timeout=30))["message"] == "News." for socket in sockets)
    assert listeners(web) == 1
    web.web.kill()
    wait_until("the channel layer has forgotten the killed process", lambda: listeners(web) == 0)


def test_streams_end_at_once_when_the_server_stops_and_nobody_listens_any_longer(web, reader):
    ended = threading.Event()

    def read():
        with sse(web, reader) as response:
            for _ in sse_events(response):
                begun.set()
        ended.set()

    begun = threading.Event()
    threading.Thread(target=read, daemon=True).start()
    assert begun.wait(30)
    with websocket(web, reader) as socket:
        began = time.monotonic()
        web.web.stop()
        took = time.monotonic() - began
        with pytest.raises(ConnectionClosed, match="1012"):  # Service restart.
            socket.recv(timeout=10)
    assert ended.wait(10), "The stream did not end as a stream does."
    assert took < 10
    assert not web.web.says("Cancel")
    assert not web.web.says("Traceback")
    assert listeners(web) == 0


# --- Nothing is missed --------------------------------------------------------------------


@pytest.mark.fault("F66")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["sse", "websocket"])
@pytest.mark.once
def test_a_reader_cut_off_a_hundred_times_sees_a_thousand_once_and_in_order(web, reader, way):
    """With the channel layer's Redis killed and started again meanwhile."""
    follower = Follower(web, reader, way=way, cut_after=10, until=1_000)
    follower.start()
    assert follower.begun.wait(60)
    for number in range(1_000):
        if number == 300:
            web.stop_broker()
            assert not web._broker_answers()
        if number == 600:
            web.start_broker()
        notify([reader.pk], kind=Kind.ANNOUNCEMENT, message=f"News {number}.")
    try:
        wait_until("all are seen", lambda: len(follower.seen) >= 1_000, seconds=200)
    finally:
        follower.stopped.set()
    follower.join(60)

    assert follower.seen == list(reader.notifications.order_by("pk").values_list("pk", flat=True))
    assert [row.message for row in reader.notifications.order_by("pk")] == [f"News {n}." for n in range(1_000)]
    assert follower.connections >= 100


@pytest.mark.fault("F66")
def test_streams_go_on_with_the_channel_layer_away_and_hear_again_when_it_is_back(web, reader):
    with websocket(web, reader) as socket:
        web.stop_broker()
        for _ in range(3):
            row = tell(reader)
            assert json.loads(socket.recv(timeout=30))["id"] == row.pk
        web.start_broker()
        wait_until("the web process listens again", lambda: listeners(web) == 1)
        row = tell(reader)
        assert json.loads(socket.recv(timeout=30))["id"] == row.pk


@pytest.mark.postgresql
def test_an_id_that_is_committed_late_is_not_passed_over(reader):
    """Two writers at once, and a reader who goes on from what it has seen."""
    from notifications.feed import newest_id, read_page

    written, may_commit, second_done = threading.Event(), threading.Event(), threading.Event()

    def slow():
        try:
            with transaction.atomic():
                notify([reader.pk], kind=Kind.ANNOUNCEMENT, message="First, committed late.")
                written.set()
                assert may_commit.wait(30)
        finally:
            connection.close()

    def quick():
        try:
            notify([reader.pk], kind=Kind.ANNOUNCEMENT, message="Second.")
            second_done.set()
        finally:
            connection.close()

    first = threading.Thread(target=slow)
    first.start()
    assert written.wait(30)
    second = threading.Thread(target=quick)
    second.start()
    wait_until("the second writer waits for its turn, or is done", lambda: second_done.is_set() or _somebody_waits())
    seen = [event.id for event in read_page(reader.pk, 0)[0]]
    position = newest_id()
    may_commit.set()
    first.join(30)
    second.join(30)
    seen += [event.id for event in read_page(reader.pk, max([position, *seen]))[0]]
    assert seen == list(reader.notifications.order_by("pk").values_list("pk", flat=True))
    assert len(seen) == 2


def _somebody_waits():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return cursor.fetchone()[0] > 0


@pytest.mark.timeout(120)
def test_eight_writers_at_once_and_a_feed_that_looks_all_the_time(reader, monkeypatch):
    """Every id is handed over once and in order, while transactions overlap; on PostgreSQL they would else skip."""
    from notifications.feed import Feed

    each, writers = 25, 8

    def write(number):
        try:
            for count in range(each):
                with transaction.atomic():
                    notify([reader.pk], kind=Kind.ANNOUNCEMENT, message=f"{number}: {count}")
                    threading.Event().wait(0.002 * (number % 3))  # Commits overtake one another.
        finally:
            connection.close()

    async def follow():
        feed = Feed()
        events = feed.follow(reader.pk, None)
        await anext(events)
        threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        seen = []
        while len(seen) < each * writers:
            if event := await anext(events):
                seen.append(event.id)
        for thread in threads:
            thread.join(30)
        await events.aclose()
        await end(feed)
        return seen

    monkeypatch.setattr("notifications.feed.PACE", 0.001)
    monkeypatch.setattr("notifications.feed.SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr("notifications.feed.HEARTBEAT", 0.05)
    seen = asyncio.run(asyncio.wait_for(follow(), 60))
    assert seen == list(reader.notifications.order_by("pk").values_list("pk", flat=True))


# --- Orders -----------------------------------------------------------------------------


def test_a_customer_hears_when_tasks_of_an_order_are_settled_and_nobody_else_does(web):
    buyer, other = make_customer(), make_customer()
    web.start_relay()
    web.start_worker("-Q", "inventory,analytics,notifications,default,email")
    with (
        websocket(web, buyer.user, events="order-tasks") as socket,
        websocket(web, other.user, events="order-tasks") as others,
        sse(web, buyer.user) as response,
    ):
        order = place_order(buyer).id
        frames = [json.loads(socket.recv(timeout=60))]
        while not any(frame.get("type") == "order-tasks" for frame in frames):
            frames.append(json.loads(socket.recv(timeout=60)))
        assert {"type": "order-tasks", "order": order} in frames
        event = next(event for event in sse_events(response) if event.get("event") == "order-tasks")
        assert event == {"event": "order-tasks", "data": f'{{"order":{order}}}'}
        wait_until(
            "all tasks are done",
            lambda: (
                {row["status"] for row in api(buyer).get(f"/api/orders/{order}/tasks/").json()["results"]}
                == {"succeeded"}
            ),
        )
        with pytest.raises(TimeoutError):
            others.recv(timeout=1)
