"""
Queries by synchronous code inside an event loop, where Django refuses them.

Django keeps coroutines from sharing a connection. Here no coroutine gets a turn: the loop stands still until the query
is done, as it does while plain Celery publishes a message. The query runs in the thread of the synchronous code that
runs the loop, and so is part of its transaction, if it has one. See docs/adr/0024.
"""

from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

from asgiref.sync import AsyncToSync
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

Answer = TypeVar("Answer")

#: Seconds to wait for a thread further up: it may itself be waiting for the loop, which stands still.
PATIENCE = 10.0


def is_running() -> bool:
    """Whether this thread runs an event loop."""
    return _get_running_loop() is not None


def synchronously(function: Callable[[], Answer]) -> Answer:
    """
    Call ``function``, which makes queries, whether this thread runs an event loop or not.

    Raises:
        SynchronousOnlyOperation: the thread that waits for this loop is busy, and may itself be waiting for the loop.
    """
    loop = _get_running_loop()
    return function() if loop is None else _beside(loop, function)


def _beside(loop: AbstractEventLoop, function: Callable[[], Answer]) -> Answer:
    above = getattr(AsyncToSync.executors, "current", None) or AsyncToSync.loop_thread_executors.get(loop)
    if above is not None:
        try:
            future: Future[Answer] = above.submit(copy_context().run, function)
        except RuntimeError:  # It is this thread itself, or it no longer waits.
            pass
        else:
            return _answer(future)
    _set_running_loop(None)
    try:
        return _on_this_thread(function)
    finally:
        _set_running_loop(loop)


def _answer(future: Future[Answer]) -> Answer:
    try:
        return future.result(PATIENCE)
    except TimeoutError:
        if not future.cancel():
            return future.result()
        raise SynchronousOnlyOperation(
            "The thread that waits for this event loop is busy. Call it by await: adelay(), aapply_async(), or "
            "sync_to_async()."
        ) from None


def _on_this_thread(function: Callable[[], Answer]) -> Answer:
    """Call it on the thread's own connections; connections opened for the call alone would stay open."""
    open_before = [each for each in connections.all(initialized_only=True) if each.connection is not None]
    try:
        return function()
    finally:
        for each in connections.all(initialized_only=True):
            if each not in open_before:
                each.close()
