"""
The context of the running code: the request it serves, its user and client, and the object it concerns.

Set by the web middleware, by a signal while it is being sent, and by the consumer while a task runs. The request and
the object are written into every ledger row that is enqueued meanwhile, so that a chain of tasks can be traced as one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["about_item", "current_actor", "current_client", "current_request_id", "current_subject", "working_on"]


@dataclass(frozen=True)
class Carrier:
    """The message with the rows that are running: its id, the worker that received it, and its delivery information."""

    id: str
    worker: str
    delivery_info: Mapping[str, Any]
    #: Whether events are enabled; if so, one is sent for each row.
    has_listeners: bool = False


_request_id: ContextVar[str] = ContextVar("request_id", default="")
_subject: ContextVar[str | None] = ContextVar("subject", default=None)
_client: ContextVar[Callable[[], str] | None] = ContextVar("client", default=None)
_actor: ContextVar[Callable[[], int | None] | None] = ContextVar("actor", default=None)


_items: ContextVar[Mapping[Any, tuple[str, str | None]]] = ContextVar("items", default=MappingProxyType({}))
_carrier: ContextVar[Carrier | None] = ContextVar("carrier", default=None)


def current_carrier() -> Carrier | None:
    """Return the message of the running row, or None outside a worker."""
    return _carrier.get()


@contextmanager
def carried_by(carrier: Carrier) -> Iterator[None]:
    """Set the message whose rows this block runs."""
    token = _carrier.set(carrier)
    try:
        yield
    finally:
        _carrier.reset(token)


def current_request_id() -> str:
    """Return the id of the request that caused this work, or an empty string."""
    return _request_id.get()


def current_subject() -> str | None:
    """Return the subject of this work, such as ``app.model:42``, or None."""
    return _subject.get()


def current_actor() -> int | None:
    """Return the id of the user who requested this work; None for anonymous users or without a request."""
    find = _actor.get()
    return find() if find else None


def current_client() -> str:
    """Return the client's network address, in the form that limits use, or an empty string."""
    find = _client.get()
    return find() if find else ""


@contextmanager
def working_on(
    *,
    request_id: str | None = None,
    subject: str | None = None,
    actor: Callable[[], int | None] | None = None,
    client: Callable[[], str] | None = None,
) -> Iterator[None]:
    """
    Set the request, subject, actor and client of the work in this block; None leaves a value unchanged.

    ``actor`` and ``client`` are called only when needed: a request begins before its user is known.
    """
    tokens: list[tuple[ContextVar[Any], Token[Any]]] = []
    if request_id is not None:
        tokens.append((_request_id, _request_id.set(request_id)))
    if subject is not None:
        tokens.append((_subject, _subject.set(subject)))
    if actor is not None:
        tokens.append((_actor, _actor.set(actor)))
    if client is not None:
        tokens.append((_client, _client.set(client)))
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)


@contextmanager
def working_on_items(stories: Mapping[Any, tuple[str, str | None]]) -> Iterator[None]:
    """Set the items of the batch that runs in this block, each with its request and subject."""
    token = _items.set(stories)
    try:
        yield
    finally:
        _items.reset(token)


@contextmanager
def about_item(item: Any) -> Iterator[None]:
    """
    Attribute the tasks enqueued in this block to ``item``, one of the batch passed to the body.

    Does nothing if no batch has this item, for example when a body is called directly.
    """
    request_id, subject = _items.get().get(item, (None, None))
    with working_on(request_id=request_id, subject=subject):
        yield
