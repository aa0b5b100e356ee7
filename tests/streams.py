"""Clients of the live streams, as a browser is one: they read until told to stop, and know where they were."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

import httpx
import redis
from django.db import connection
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from notifications.announce import notify
from notifications.feed import Feed
from notifications.models import Kind, Notification
from notifications.wakeup import bell
from tests.processes import Machine

#: The group of the channel layer, as Redis knows it.
GROUP = "shopwire.__group__live"


@contextmanager
def web_that_hears(machine: Machine, settings: Any) -> Iterator[Machine]:
    """Start a web process, and have a channel layer over which this process rings for it."""
    usual = settings.CHANNEL_LAYERS["default"]
    address = f"redis://127.0.0.1:{machine.redis_port}/0"
    settings.CHANNEL_LAYERS = {"default": {**usual, "CONFIG": {**usual["CONFIG"], "hosts": [address]}}}
    machine.environment["REDIS_URL"] = address
    machine.web = machine.start_web()  # type: ignore[attr-defined]
    yield machine
    bell.close()  # It knows the channel layer of this test.


def tell(*users: Any, message: str = "News.") -> Any:
    """Write a notification to each user, and return the last."""
    notify([user.pk for user in users], kind=Kind.ANNOUNCEMENT, message=message)
    return Notification.objects.order_by("-pk").first()


def listeners(machine: Machine) -> int:
    """How many processes listen for hints at the channel layer."""
    found: Any = redis.Redis(port=machine.redis_port).pubsub_numsub(GROUP)
    return int(dict(found)[GROUP.encode()])


def token_of(user: Any) -> str:
    return str(AccessToken.for_user(user))


@contextmanager
def sse(machine: Machine, user: Any, after: int | None = None, **headers: str) -> Iterator[httpx.Response]:
    """Open the event stream of a user."""
    if user is not None:
        headers["Authorization"] = f"Bearer {token_of(user)}"
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    address = f"http://127.0.0.1:{machine.web_port}/api/notifications/sse/"
    with httpx.stream("GET", address, headers=headers, timeout=60) as response:
        yield response


def sse_events(response: httpx.Response) -> Iterator[dict[str, str]]:
    """Yield what an event stream says, field by field, without its comments."""
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def websocket(
    machine: Machine, user: Any = None, after: int | None = None, *, events: str | None = None, **options: Any
) -> ClientConnection:
    """Open the WebSocket of a user."""
    asked = {"after": after, "events": events}
    query = f"?{urlencode({name: value for name, value in asked.items() if value is not None})}"
    if user is not None:
        options["subprotocols"] = ["bearer", token_of(user)]
    address = f"ws://127.0.0.1:{machine.web_port}/ws/notifications/{query}"
    # A client that leaves with frames unread would wait for the end of them.
    return connect(address, open_timeout=30, close_timeout=0.2, max_queue=None, **options)


async def end(feed: Feed) -> None:
    """Close a feed of this very process, and the connection of each of its threads."""
    feed.close()
    both = threading.Barrier(2)

    def close_connection() -> None:
        both.wait(30)
        connection.close()

    await asyncio.gather(feed.in_thread(close_connection), feed.in_thread(close_connection))


class Follower(threading.Thread):
    """
    Follows a user's notifications, is cut off every ``cut_after`` of them, and comes back with the last id it saw.

    ``seen`` are the ids, in the order in which they came. It ends when it has seen ``until`` of them.
    """

    def __init__(self, machine: Machine, user: Any, *, way: str, cut_after: int, until: int) -> None:
        super().__init__(daemon=True)
        self.machine, self.user, self.way = machine, user, way
        self.cut_after, self.until = cut_after, until
        self.seen: list[int] = []
        self.connections = 0
        self.begun = threading.Event()
        self.stopped = threading.Event()

    def run(self) -> None:
        while len(self.seen) < self.until and not self.stopped.is_set():
            self.connections += 1
            with suppress(httpx.TransportError, ConnectionClosed, TimeoutError):
                (self._follow_sse if self.way == "sse" else self._follow_websocket)()

    def _follow_sse(self) -> None:
        with sse(self.machine, self.user, self._last()) as response:
            self.begun.set()
            here = 0
            for event in sse_events(response):
                if "data" not in event:
                    continue
                assert json.loads(event["data"])["id"] == int(event["id"])
                self.seen.append(int(event["id"]))
                here += 1
                if here == self.cut_after or len(self.seen) == self.until or self.stopped.is_set():
                    return

    def _follow_websocket(self) -> None:
        with websocket(self.machine, self.user, self._last()) as socket:
            self.begun.set()
            for _ in range(self.cut_after):
                if len(self.seen) == self.until or self.stopped.is_set():
                    return
                self.seen.append(json.loads(socket.recv(timeout=60))["id"])

    def _last(self) -> int:
        return self.seen[-1] if self.seen else 0
