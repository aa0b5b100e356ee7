"""
The feed's two transports: an SSE response and a WebSocket.

Both begin after a cursor, and both end when the user who opened them loses access: every
:data:`RECHECK` seconds the session or token is checked again. A client always gets its own user's notifications.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from importlib import import_module
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.core.exceptions import DisallowedHost
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, parse_cookie
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.settings import api_settings

from notifications.feed import Event, Seat, feed

logger = logging.getLogger(__name__)

#: Seconds between two checks whether a stream may continue.
RECHECK: Final = 45.0
#: Milliseconds after which a browser reconnects when its stream has ended.
RETRY: Final = 2_000
#: No id has more digits; see BigAutoField.
MOST_DIGITS: Final = 18

#: Codes with which a socket is closed when its session or token has ended, and when the server stops (RFC 6455, 7.4).
NOT_SIGNED_IN: Final = 4401
STOPPING: Final = 1012
BROKEN_OFF: Final = 1011


def parse_cursor(text: str | None) -> int | None:
    """
    Return the id after which a stream starts; None: now.

    Raises:
        ValueError: it is not an id.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > MOST_DIGITS:
        raise ValueError("The last event id must be a number.")
    return int(text)


def seat_for(user_id: int) -> Seat | None:
    """Reserve a place for another stream of a user; None: the user has too many."""
    return feed.keep_seat(user_id, limit=settings.STREAMS_PER_USER)


def user_behind(cookies: str, authorization: str) -> Any:
    """Return the user whom these headers authenticate, or None. It follows the API's rules, for all streams."""
    http: Any = HttpRequest()
    http.method = "GET"
    http.COOKIES = parse_cookie(cookies)
    if authorization:
        http.META["HTTP_AUTHORIZATION"] = authorization
    engine: Any = import_module(settings.SESSION_ENGINE)
    http.session = engine.SessionStore(http.COOKIES.get(settings.SESSION_COOKIE_NAME))
    http.user = get_user(http)
    ways: Any = api_settings.DEFAULT_AUTHENTICATION_CLASSES
    request = Request(http, authenticators=[way() for way in ways])
    try:
        return request.user if request.user.is_authenticated else None
    except APIException:
        return None


async def while_allowed(
    user_id: int, after: int | None, *, seat: Seat | None = None, is_allowed: Callable[[], bool]
) -> AsyncIterator[Event | None]:
    """
    Yield a user's events while ``is_allowed``, which queries the database, returns true.

    While the database is unavailable, nothing is yielded and nothing is checked.
    """
    checked = time.monotonic()
    async with aclosing(feed.follow(user_id, after, seat)) as events:  # type: ignore[type-var]  # It is a generator.
        async for event in events:
            if time.monotonic() - checked > RECHECK:
                with suppress(DatabaseError, InterfaceError):
                    if not await feed.in_thread(is_allowed):
                        return
                    checked = time.monotonic()
            yield event


async def as_sse(events: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    """Yield events as lines of an event stream (HTML standard, section 9.2)."""
    yield f"retry: {RETRY}\n\n".encode()
    async with aclosing(events) as stream:  # type: ignore[type-var]  # It is a generator.
        async for event in stream:
            if event is None:
                yield b":\n\n"
            elif not event.text:  # A browser records the id, and dispatches no event.
                yield f"id: {event.id}\n\n".encode()
            elif event.id is None:
                yield f"event: {event.type}\ndata: {event.text}\n\n".encode()
            else:
                yield f"id: {event.id}\ndata: {event.text}\n\n".encode()


class NotificationSocket(AsyncWebsocketConsumer):
    """
    ``/ws/notifications/``: one frame per event. Frames from the client are ignored.

    Events about orders go to the shop's own pages, and to clients that request them with ``?events=order-tasks``:
    they have no id, and a client with a token may expect notifications only.
    """

    channel_layer_alias = ""  # The feed listens, once for all sockets of the process.

    async def connect(self) -> None:
        """Accept the connection if it comes from the shop's pages and a user is signed in; refuse it otherwise."""
        headers = {name.decode("latin1"): value.decode("latin1") for name, value in self.scope["headers"]}
        token = _token_of(self.scope.get("subprotocols", []))
        cookies, authorization = ("", f"Bearer {token}") if token else (headers.get("cookie", ""), "")
        try:
            query = parse_qs(self.scope["query_string"].decode("latin1"), keep_blank_values=True)
            after = parse_cursor(query["after"][-1] if "after" in query else None)
            self.tells_of_orders = token is None or "order-tasks" in query.get("events", [])
        except ValueError:
            await self.close()
            return
        # A browser sends the cookie from any site, but names the site: a cookie counts only from a page of this site.
        is_welcome = is_own_origin(headers.get("origin"), headers.get("host", ""), may_be_missing=token is not None)
        try:
            user = await feed.in_thread(user_behind, cookies, authorization) if is_welcome else None
        except (DatabaseError, InterfaceError) as error:
            logger.warning("A stream cannot be opened: %s", error)
            user = None
        seat = seat_for(user.pk) if user is not None else None
        if user is None or seat is None:
            await self.close()
            return
        await self.accept(subprotocol="bearer" if token else None)
        events = while_allowed(
            user.pk, after, seat=seat, is_allowed=lambda: user_behind(cookies, authorization) == user
        )
        self.sending = asyncio.create_task(self._send_all(events))

    async def disconnect(self, code: int) -> None:
        """The client has disconnected, or the server is stopping."""
        if sending := getattr(self, "sending", None):
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore whatever a client sends."""

    async def _send_all(self, events: AsyncIterator[Event | None]) -> None:
        code = NOT_SIGNED_IN
        try:
            async with aclosing(events) as stream:  # type: ignore[type-var]  # It is a generator.
                async for event in stream:
                    if event is None or not event.text:
                        continue
                    if event.id is not None:
                        await self.send(event.text)
                    elif self.tells_of_orders:
                        await self.send(f'{{"type":"{event.type}",{event.text[1:]}')
        except Exception:  # Clients reconnect; none is left with a silent socket.
            logger.exception("A stream failed.")
            code = BROKEN_OFF
        await self.close(STOPPING if feed.is_closing else code)


async def refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Refuse a WebSocket at an unknown address."""
    await receive()
    await send({"type": "websocket.close"})


def is_own_origin(origin: str | None, host: str, *, may_be_missing: bool) -> bool:
    """Whether a page of ``origin`` may open sockets: one of this host, or one that the settings let call the API."""
    if origin is None:
        return may_be_missing
    if origin in settings.CORS_ALLOWED_ORIGINS or origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    request = HttpRequest()
    request.META["HTTP_HOST"] = host
    try:
        return urlsplit(origin).scheme in {"http", "https"} and urlsplit(origin).netloc == request.get_host()
    except (DisallowedHost, ValueError):
        return False


def _token_of(subprotocols: list[str]) -> str | None:
    """Return the token of ``Sec-WebSocket-Protocol: bearer, <access>``: a browser can set no other header."""
    return subprotocols[1] if len(subprotocols) == 2 and subprotocols[0] == "bearer" else None
