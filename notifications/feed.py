"""
The events of one web process's open streams, both SSE and WebSocket.

Promises that a stream yields every notification of its reader after its cursor, once and in order, for as long as it is
open, and that a stream resumed after the last id it saw has missed none. Everything is read from the table. A hint over
the channel layer (wakeup.py) only says when to look; without hints, the feed looks every :data:`PACE` seconds. One
query serves all streams of the process, on one of two threads with a connection each; an open stream holds neither a
thread nor a connection.

This rests on ids that grow in the order of the commits (announce.py): what is read up to an id is complete.
"""

import asyncio
import logging
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, TypeVar
from uuid import uuid4

from channels.layers import get_channel_layer
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections
from rest_framework.renderers import JSONRenderer

from notifications.announce import newest_id
from notifications.models import Notification
from notifications.serializers import NotificationSerializer
from notifications.wakeup import GROUP, orders_of
from store.models import Order

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: Seconds between two queries of the table if no hint arrives.
PACE: Final = 2.0
#: Minimum seconds between two queries, however many hints arrive.
SHORTEST_PAUSE: Final = 0.02
#: The most notifications that one query reads.
PAGE: Final = 500
#: How many notifications wait in memory for one stream; for a slower one, the rest waits in the table.
MOST_WAITING: Final = 500
#: How many orders' news may wait to be sent; pages learn of any more when they next ask.
MOST_ORDERS_WAITING: Final = 10_000
#: An admitted stream must begin within this many seconds, or its place becomes free again.
BEGINS_WITHIN: Final = 10.0
#: After this many seconds without an event a stream yields None, so that its connection shows signs of life.
HEARTBEAT: Final = 15.0


@dataclass(frozen=True)
class Event:
    """An event of a stream: a notification with its id, or another type. ``text`` is JSON."""

    id: int | None
    text: str
    type: str = "notification"


class Reader:
    """One open stream."""

    def __init__(self, cursor: int | None) -> None:
        self.cursor = cursor or 0
        self.waiting: deque[Event] = deque()
        #: More events arrived than may wait: read them from the table.
        self.is_behind = False
        self.rung = asyncio.Event()

    def hand(self, event: Event) -> None:
        """Give the stream an event to send."""
        if len(self.waiting) >= MOST_WAITING:
            self.is_behind = True
        else:
            self.waiting.append(event)
        self.rung.set()


class Seat:
    """A place reserved for a user's stream until it starts."""

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.until = time.monotonic() + BEGINS_WITHIN


class Feed:
    """The streams of this process. It lives in one event loop; any thread can reserve seats."""

    def __init__(self) -> None:
        self._readers: dict[int, set[Reader]] = {}
        self._open: Counter[int] = Counter()
        self._seats: set[Seat] = set()
        #: Held while streams are counted and seats kept, never for longer.
        self._counting = threading.Lock()
        #: The number of false hints.
        self.refused = 0
        #: Everything up to this id has been handed to the readers that it is for.
        self._position = 0
        #: Held while the position moves, and while a reader joins.
        self._turn = asyncio.Lock()
        self._rung = asyncio.Event()
        self._orders: set[int] = set()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="feed")
        self._tasks: list[asyncio.Task[None]] = []
        self.is_closing = False

    def streams_of(self, user_id: int) -> int:
        """Return how many streams a user has open here."""
        return self._open[user_id]

    def keep_seat(self, user_id: int, *, limit: int) -> Seat | None:
        """Reserve a place for another stream of a user; None if ``limit`` are open or reserved."""
        with self._counting:
            now = time.monotonic()
            self._seats = {seat for seat in self._seats if seat.until > now}
            taken = self._open[user_id] + sum(seat.user_id == user_id for seat in self._seats)
            if taken >= limit:
                return None
            seat = Seat(user_id)
            self._seats.add(seat)
            return seat

    async def follow(self, user_id: int, after: int | None, seat: Seat | None = None) -> AsyncIterator[Event | None]:
        """
        Yield a user's notifications with ids above ``after``, then new ones as they arrive.

        With None it begins now, and the first event has no text: its id is the starting point. Yields None if nothing
        came for :data:`HEARTBEAT` seconds. Ends when the feed is closed, or at once if its ``seat`` has expired.
        """
        with self._counting:
            if seat is not None and seat not in self._seats:
                return
            self._seats.discard(seat)
            self._open[user_id] += 1
        reader = Reader(after)
        try:
            await self._let_in(user_id, reader)
            if after is None:
                reader.cursor = self._position
                yield Event(self._position, "")
            while not self.is_closing:
                async for event in self._catch_up(user_id, reader):
                    yield event
                async for live in self._carry(reader):
                    yield live
        finally:
            self._let_out(user_id, reader)

    async def in_thread(self, function: Callable[..., Answer], *args: Any) -> Answer:
        """Run a function that uses the database in a thread of the feed."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _with_connection, function, *args)

    def close(self) -> None:
        """End all streams: the server stops."""
        self.is_closing = True
        for task in self._tasks:
            task.cancel()
        for readers in self._readers.values():
            for reader in readers:
                reader.rung.set()

    def close_with_the_process(self) -> None:
        """
        End all streams at SIGTERM and SIGINT, before the server's own handlers run.

        It waits for its connections to end. To be called in its event loop, before any stream opens.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            server = signal.getsignal(number)

            def close_first(number: int, frame: FrameType | None, server: Any = server) -> None:
                loop.call_soon_threadsafe(self.close)
                server(number, frame)

            if callable(server):
                signal.signal(number, close_first)

    # --- One stream -----------------------------------------------------------------------

    async def _let_in(self, user_id: int, reader: Reader) -> None:
        async with self._turn:
            if not self._readers:  # No reader missed the notifications that came meanwhile.
                self._position = await self.in_thread(newest_id)
            self._readers.setdefault(user_id, set()).add(reader)
        if not self._tasks and not self.is_closing:
            self._tasks = [asyncio.create_task(_for_ever(work)) for work in (self._listen, self._look)]

    def _let_out(self, user_id: int, reader: Reader) -> None:
        with self._counting:
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]
        readers = self._readers.get(user_id, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(user_id, None)

    async def _catch_up(self, user_id: int, reader: Reader) -> AsyncIterator[Event]:
        """Yield stored notifications after the reader's cursor. New ones wait, or are included."""
        reader.waiting.clear()
        reader.is_behind = False
        while not self.is_closing:
            try:
                page, position, is_more = await self.in_thread(read_page, user_id, reader.cursor)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("A stream is waiting for the database: %s", error)
                await asyncio.sleep(PACE)
                continue
            for event in page:
                reader.cursor = event.id or reader.cursor
                yield event
            reader.cursor = position
            if not is_more:
                return

    async def _carry(self, reader: Reader) -> AsyncIterator[Event | None]:
        """Yield events for the reader, until too many are waiting."""
        while not (self.is_closing or reader.is_behind):
            reader.rung.clear()
            while reader.waiting:
                event = reader.waiting.popleft()
                if event.id is None:
                    yield event
                elif event.id > reader.cursor:
                    reader.cursor = event.id
                    yield event
            # Not with wait_for: before Python 3.12 it loses its cancellation if the bell rings at the same moment, and
            # the stream of a disconnected client would go on forever.
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await reader.rung.wait()
            except TimeoutError:
                yield None

    # --- All streams ----------------------------------------------------------------------

    async def _look(self) -> None:
        """Look for news after a hint, or after an interval, as long as a stream is open."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PACE):
                    await self._rung.wait()
            self._rung.clear()
            if not self._readers:
                self._orders.clear()
                continue
            began = loop.time()
            try:
                await self._advance()
                await self._tell_of_orders()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("New notifications could not be read; retrying: %s", error)
                await asyncio.sleep(PACE)
            await asyncio.sleep(max(0.0, began + SHORTEST_PAUSE - loop.time()))

    async def _advance(self) -> None:
        """Pass on new events to every reader."""
        is_more = True
        while is_more:
            async with self._turn:
                news, position, is_more = await self.in_thread(read_news, set(self._readers), self._position)
                for user_id, event in news:
                    for reader in self._readers.get(user_id, ()):
                        reader.hand(event)
                self._position = position

    async def _tell_of_orders(self) -> None:
        """Tell users with an open stream that tasks of their orders have ended."""
        if not self._orders:
            return
        orders, self._orders = self._orders, set()
        for order_id, user_id in await self.in_thread(owners_of, orders, set(self._readers)):
            for reader in self._readers.get(user_id, ()):
                reader.hand(Event(None, f'{{"order":{order_id}}}', type="order-tasks"))

    async def _listen(self) -> None:
        """Listen for hints of the channel layer, reconnecting when it is away."""
        layer: Any = get_channel_layer()
        was_there = True
        while True:
            try:
                channel = await layer.new_channel(f"web.{uuid4().hex}")
                await layer.group_add(GROUP, channel)
                if not was_there:
                    logger.info("The channel layer is back.")
                was_there = True
                while True:
                    self._hear(await layer.receive(channel))
            except Exception as error:  # noqa: BLE001 - each channel layer has its own
                if was_there:
                    logger.warning("No channel layer (%r): streams poll every %.0f s.", error, PACE)
                was_there = False
                await layer.flush()
                await asyncio.sleep(PACE)

    def _hear(self, hint: Any) -> None:
        """Trigger a look at the table. A hint that is not ours costs nothing."""
        try:
            orders = orders_of(hint)
        except ValueError as error:
            self.refused += 1
            if self.refused.bit_count() == 1:  # The first one, and then fewer and fewer.
                logger.warning("The channel layer delivered %d invalid hints: %s.", self.refused, error)
            return
        if len(self._orders) < MOST_ORDERS_WAITING:
            self._orders |= orders
        self._rung.set()


async def _for_ever(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an endless function, and restart it if it ends: no single exception ends the process's streams."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("The search for new notifications failed; it continues.")
        await asyncio.sleep(PACE)


def read_page(user_id: int, after: int) -> tuple[list[Event], int, bool]:
    """Return a user's first notifications after an id, the last id read, and whether there may be more."""
    rows = Notification.objects.filter(user_id=user_id, in_app=True, pk__gt=after)
    page = list(rows.order_by("pk")[:PAGE])
    return _events(page), page[-1].pk if page else after, len(page) == PAGE


def read_news(user_ids: Set[int], position: int) -> tuple[list[tuple[int, Event]], int, bool]:
    """
    Return news for some users after ``position``, with their recipients, in order.

    Also returns how far this goes, and whether there is more. Ids that a later commit might still fill lie beyond that.
    """
    newest = newest_id()
    if newest <= position:
        return [], position, False
    rows = Notification.objects.filter(in_app=True, pk__gt=position, pk__lte=newest)
    if newest - position > PAGE:  # Reading a few rows of other users costs less than naming all readers.
        rows = rows.filter(user_id__in=user_ids)
    page = list(rows.order_by("pk")[:PAGE])
    is_more = len(page) == PAGE
    wanted = [row for row in page if row.user_id in user_ids]
    told = {event.id: event for event in _events(wanted)}
    news = [(row.user_id, told[row.pk]) for row in wanted if row.pk in told]
    return news, page[-1].pk if is_more else newest, is_more


def owners_of(order_ids: Set[int], user_ids: Set[int]) -> list[tuple[int, int]]:
    """Return those of some orders that belong to some users, each with its user."""
    orders = Order.objects.filter(pk__in=order_ids, customer__user_id__in=user_ids)
    return list(orders.order_by("pk").values_list("pk", "customer__user_id"))


def _events(rows: Sequence[Notification]) -> list[Event]:
    """Return notifications as stream events. One that cannot be rendered is skipped."""
    try:
        told = NotificationSerializer(rows, many=True).data
        return [Event(row["id"], JSONRenderer().render(row).decode()) for row in told]
    except (DatabaseError, InterfaceError):
        raise
    except Exception:
        if len(rows) > 1:
            return [event for row in rows for event in _events([row])]
        logger.exception("Notification %s cannot be sent.", [row.pk for row in rows])
        return []


def _with_connection(function: Callable[..., Answer], *args: Any) -> Answer:
    """Call a read-only function; retry on a new connection if this thread's was closed while idle."""
    close_old_connections()
    try:
        return function(*args)
    except (OperationalError, InterfaceError):
        close_old_connections()
        return function(*args)
    finally:
        close_old_connections()


feed = Feed()
