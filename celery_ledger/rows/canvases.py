"""
What is called together, by chain, group or chord: its id, and whether calls are made of what follows from a row's end.

Every row of a canvas bears the canvas's id, so that all of it can be found: to be shown, cancelled and pruned.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from uuid import UUID

from celery_ledger.uuid7 import uuid7

__all__ = ["KEY", "called_by", "caller", "current", "following", "gathering", "is_following", "of", "within"]

#: Where a row's options have what follows from it.
KEY: Final = "canvas"

_current: ContextVar[UUID | None] = ContextVar("canvas", default=None)
_caller: ContextVar[tuple[str, str] | None] = ContextVar("caller", default=None)
_is_following: ContextVar[bool] = ContextVar("is_following", default=False)


def current() -> UUID | None:
    """Return the canvas that is being called; None: none is."""
    return _current.get()


@contextmanager
def gathering() -> Iterator[UUID]:
    """Make a canvas of all calls in this block; inside another canvas's block they join that canvas."""
    with within(_current.get() or uuid7()) as canvas:
        yield canvas


@contextmanager
def within(canvas: UUID) -> Iterator[UUID]:
    """Have the calls of this block belong to a canvas."""
    token = _current.set(canvas)
    try:
        yield canvas
    finally:
        _current.reset(token)


@contextmanager
def called_by(id: str, root: str) -> Iterator[None]:
    """Have the calls of this block follow from the task ``id``, in all that began with ``root``."""
    token = _caller.set((id, root))
    try:
        yield
    finally:
        _caller.reset(token)


def caller() -> tuple[str, str] | None:
    """Return from which task the calls follow that are made now, and with which all of it began; None: from none."""
    return _caller.get()


@contextmanager
def following() -> Iterator[None]:
    """Say that the calls of this block follow from how rows end, in the transaction that ends them."""
    token = _is_following.set(True)
    try:
        yield
    finally:
        _is_following.reset(token)


def is_following() -> bool:
    """Whether calls are made of what follows from a row's end, whose transaction has yet to commit."""
    return _is_following.get()


def of(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a row's options say of its canvas; nothing for most."""
    return (options.get(KEY) if options else None) or {}
