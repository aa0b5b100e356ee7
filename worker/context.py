"""
What the code that runs now is about: the request it serves, who makes it, and the object it concerns.

Set by the web's middleware, by a signal while it is sent, and by the consumer while a task runs;
request and object are written into every ledger row that is enqueued meanwhile, so that a chain of
tasks stays one story.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_subject: ContextVar[str | None] = ContextVar("subject", default=None)
_actor: ContextVar[Callable[[], int | None] | None] = ContextVar("actor", default=None)


def current_request_id() -> str:
    """Return the id of the request that set this work in motion, or an empty string."""
    return _request_id.get()


def current_subject() -> str | None:
    """Return what this work is about, such as ``store.order:42``, or None."""
    return _subject.get()


def current_actor() -> int | None:
    """Return the id of the user at whose request this is done, or None: nobody signed in, or no person at all."""
    find = _actor.get()
    return find() if find else None


@contextmanager
def working_on(
    *, request_id: str | None = None, subject: str | None = None, actor: Callable[[], int | None] | None = None
) -> Iterator[None]:
    """
    Name the request, the subject and the actor of the work in this block; what is None stays as it was.

    ``actor`` is asked only where somebody wants to know: a request begins before its user is known.
    """
    tokens: list[tuple[ContextVar[Any], Token[Any]]] = []
    if request_id is not None:
        tokens.append((_request_id, _request_id.set(request_id)))
    if subject is not None:
        tokens.append((_subject, _subject.set(subject)))
    if actor is not None:
        tokens.append((_actor, _actor.set(actor)))
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)
