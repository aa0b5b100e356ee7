"""
The databases that have the ledger's tables, and the one in use.

Each alias of ``LEDGER_DATABASES`` is a complete ledger: a row, its successors, its counts and its results are all in
one database, because they share transactions. Everything in the package works on the alias in use, :func:`current`:
relays serve one alias per thread, and a worker uses the alias of the message that it runs. The body of a task may ask
for it too, so that a project's router can put the effects into the same database.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from django.apps import apps
from django.core.signals import setting_changed
from django.db import InterfaceError, OperationalError, connections, router, transaction
from django.dispatch import receiver

from celery_ledger import conf

__all__ = [
    "AWAY",
    "AwayError",
    "aliases",
    "are_several",
    "current",
    "each",
    "for_calls",
    "in_order",
    "keep_connections",
    "using",
]

Answer = TypeVar("Answer")
#: What is raised if a database does not answer.
AWAY: Final = (OperationalError, InterfaceError)
#: The header of a message that names the database of its rows; without it, they are in the first one.
HEADER: Final = "ledger_database"

_in_use: ContextVar[str | None] = ContextVar("ledger_database", default=None)
#: The setting's value, which every call needs several times.
_read: tuple[str, ...] | None = None


def aliases() -> tuple[str, ...]:
    """
    Return the aliases that have the ledger.

    Raises:
        ImproperlyConfigured: the setting is not a list of aliases.
    """
    global _read
    if _read is None:
        _read = conf.DATABASES.value
    return _read


@receiver(setting_changed, dispatch_uid="celery_ledger.databases")
def _read_again(*, setting: str, **_: Any) -> None:
    """Read the setting again: a test has replaced it."""
    global _read
    if setting == conf.DATABASES.name:
        _read = None


def are_several() -> bool:
    """Whether more than one database has the ledger."""
    return len(aliases()) > 1


def current() -> str:
    """Return the alias in use: of the running task, or else the first one."""
    return _in_use.get() or aliases()[0]


def in_order() -> list[str]:
    """Return all aliases, the one in use first."""
    return sorted(aliases(), key=lambda alias: alias != current())


@contextmanager
def using(alias: str) -> Iterator[None]:
    """Make everything in this block use the ledger of ``alias``; calls still prefer an open transaction."""
    token = _in_use.set(alias)
    try:
        yield
    finally:
        _in_use.reset(token)


def for_calls(said: str | None = None) -> str:
    """
    Return the alias into which a call made now is written: ``said``, if the call names one.

    Otherwise the alias in use, the project's router's choice, and then the order of ``LEDGER_DATABASES`` decide: the
    first whose transaction is open, or the first one if none is.

    Raises:
        ValueError: ``said`` does not have the ledger.
    """
    known = aliases()
    if said is not None:
        if said not in known:
            raise ValueError(f"The database {said!r} is not one of LEDGER_DATABASES: {', '.join(known)}.")
        return said
    if len(known) == 1:
        return known[0]
    routed = router.db_for_write(apps.get_model("celery_ledger", "DurableTask"))
    preferred = [alias for alias in (_in_use.get(), routed, *known) if alias in known]
    return next((alias for alias in preferred if connections[alias].in_atomic_block), preferred[0])


class AwayError(OperationalError):
    """Databases of several that did not answer; what was to be done was done in the others."""

    def __init__(self, away: Mapping[str, Exception]) -> None:
        reasons = "; ".join(f"{alias} ({' '.join(str(error).split())})" for alias, error in away.items())
        super().__init__(f"Not done in each database, because these did not answer: {reasons}.")
        self.databases = list(away)


class _Connection:
    """The connection to the database in use."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(connections[current()], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(connections[current()], name, value)


#: In place of ``django.db.connection``.
connection: Any = _Connection()


def keep_connections() -> None:
    """
    Close this thread's connections that are broken or past their maximum age, and keep the others.

    For relays and workers. Django's default, a ``CONN_MAX_AGE`` of 0, closes a connection at the end of a request: they
    have none, and keep those to the ledger, of which each of their threads and processes has one.
    """
    for each in connections.all(initialized_only=True):
        if each.alias in aliases() and each.settings_dict["CONN_MAX_AGE"] == 0:
            each.close_at = None
        if not each.in_atomic_block:  # Within a caller's transaction, as in a test, Django would close it.
            each.close_if_unusable_or_obsolete()


def atomic() -> Any:
    """Return ``django.db.transaction.atomic()`` of the database in use."""
    return transaction.atomic(using=current())


def on_commit(function: Callable[[], Any], *, robust: bool = False) -> None:
    """Call ``function`` after the commit of the current transaction of the database in use, which it will use too."""
    alias = current()

    def call() -> None:
        with using(alias):
            function()

    transaction.on_commit(call if are_several() else function, using=alias, robust=robust)


def each(work: Callable[[], Answer]) -> Iterator[tuple[str, Answer]]:
    """
    Do the same in each database, one after the other, and yield its alias and the answer.

    Raises:
        AwayError: a database of several did not answer; all others did, and are yielded first.
    """
    away: dict[str, Exception] = {}
    for alias in aliases():
        try:
            with using(alias):
                answer = work()
        except AWAY as error:
            if not are_several():
                raise
            away[alias] = error
        else:
            yield alias, answer
    if away:
        raise AwayError(away)
