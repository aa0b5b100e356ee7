"""
Hints to web processes that there is news; sent by the writer, after its commit.

This is only a hint, over the channel layer: streams read new notifications from the table. A thread of its own sends
it, so that no worker waits for Redis, and several hints in the meantime are sent as one. A lost hint costs streams only
a moment, because they also look every other second.
"""

import asyncio
import atexit
import logging
import threading
import time
from typing import Any, Final

from channels.layers import get_channel_layer
from django.db import transaction

from web.fields import MAX_ID

logger = logging.getLogger(__name__)

#: The channel layer's group of all web processes.
GROUP: Final = "live"
#: Seconds to wait for the channel layer to accept a hint.
PATIENCE: Final = 3.0
#: Minimum seconds between two hints of one process; those in between are sent as one.
SHORTEST_PAUSE: Final = 0.02
#: The most orders that one hint names; pages learn of more when they next ask.
MOST_ORDERS: Final = 500


def orders_of(hint: Any) -> set[int]:
    """
    Return the order ids in a hint.

    Raises:
        ValueError: it is not a hint of ours. Anyone with access to Redis can write to the channel layer.
    """
    if not isinstance(hint, dict) or hint.get("type") != "news":
        raise ValueError("no news")
    orders = hint.get("orders", [])
    if not isinstance(orders, list) or len(orders) > MOST_ORDERS:
        raise ValueError("not a list of orders, or too long")
    if not all(type(order) is int and 0 < order <= MAX_ID for order in orders):
        raise ValueError("not ids of orders")
    return set(orders)


class Bell:
    """The sender of hints in each writing process."""

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._orders: set[int] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closing = False

    def ring(self, orders: set[int] | None = None) -> None:
        """Hint every web process to look for news; tasks of ``orders`` have ended. Never waits."""
        with self._lock:
            if orders and len(self._orders) < MOST_ORDERS:
                self._orders |= orders
            if self._thread is None or not self._thread.is_alive():  # A forked child has no thread yet.
                self._is_closing = False
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()
        self._rung.set()

    def close(self) -> None:
        """End the thread and its connection, at the end of the process."""
        if self._thread is not None:
            self._is_closing = True
            self._rung.set()
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        heard = True
        with asyncio.Runner() as runner:
            while True:
                self._rung.wait()
                self._rung.clear()
                if self._is_closing:
                    return
                with self._lock:
                    orders, self._orders = self._orders, set()
                try:
                    runner.run(_send({"type": "news", "orders": sorted(orders)[:MOST_ORDERS]}))
                except Exception as error:  # noqa: BLE001 - each channel layer has its own; the hint is lost
                    if heard:
                        logger.warning("No channel layer (%r): open pages show new notifications with a delay.", error)
                    heard = False
                else:
                    heard = True
                time.sleep(SHORTEST_PAUSE)


async def _send(message: dict[str, Any]) -> None:
    layer: Any = get_channel_layer()
    try:
        await asyncio.wait_for(layer.group_send(GROUP, message), PATIENCE)
    except Exception:
        await layer.flush()  # A connection that broke is not used again.
        raise


bell = Bell()
atexit.register(bell.close)


def ring_after_commit() -> None:
    """Send a hint when the current transaction has committed."""
    transaction.on_commit(bell.ring, robust=True)
