"""
The calls of a chain, group or chord: their common id, and whether calls follow from the end of a row.

Every row of a canvas carries the canvas's id, so that all of it can be found, to be shown, cancelled and pruned.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from uuid import UUID

from celery_ledger.uuid7 import uuid7

__all__ = [
    *("ERRBACK", "KEY", "called_by", "caller", "calling_errbacks", "current", "following", "gathering"),
    *("is_following", "is_of_errback", "of", "within"),
]

#: The key, in a row's options, of what follows from it.
KEY: Final = "canvas"
#: The key, in there, that marks the call of an errback.
ERRBACK: Final = "errback"

_current: ContextVar[UUID | None] = ContextVar("canvas", default=None)
_caller: ContextVar[tuple[str, str] | None] = ContextVar("caller", default=None)
_is_following: ContextVar[bool] = ContextVar("is_following", default=False)
_is_of_errback: ContextVar[bool] = ContextVar("is_of_errback", default=False)


def current() -> UUID | None:
    """Return the canvas that is being called, or None."""
    return _current.get()


@contextmanager
def gathering() -> Iterator[UUID]:
    """Make a canvas of all calls in this block; in the block of another canvas, they join that canvas."""
    with within(_current.get() or uuid7()) as canvas:
        yield canvas


@contextmanager
def within(canvas: UUID) -> Iterator[UUID]:
    """Assign the calls of this block to a canvas."""
    token = _current.set(canvas)
    try:
        yield canvas
    finally:
        _current.reset(token)


@contextmanager
def called_by(id: str, root: str) -> Iterator[None]:
    """Set the task ``id`` as the parent of the calls in this block, and ``root`` as their root."""
    token = _caller.set((id, root))
    try:
        yield
    finally:
        _caller.reset(token)


def caller() -> tuple[str, str] | None:
    """Return the parent and the root of calls made now; None if there are none."""
    return _caller.get()


@contextmanager
def following() -> Iterator[None]:
    """Mark the calls of this block as successors of rows that end in the current transaction."""
    token = _is_following.set(True)
    try:
        yield
    finally:
        _is_following.reset(token)


def is_following() -> bool:
    """Whether calls are successors of a row whose transaction has yet to commit."""
    return _is_following.get()


@contextmanager
def calling_errbacks() -> Iterator[None]:
    """Mark the calls of this block as errbacks: they tell that their canvas has failed, and outlast it."""
    token = _is_of_errback.set(True)
    try:
        yield
    finally:
        _is_of_errback.reset(token)


def is_of_errback() -> bool:
    """Whether a call made now is that of an errback."""
    return _is_of_errback.get()


def of(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the canvas entry of a row's options; empty for rows outside a canvas."""
    return (options.get(KEY) if options else None) or {}
