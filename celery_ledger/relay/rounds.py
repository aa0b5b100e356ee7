"""Periodic work of every relay in addition to publishing: register it in an app's ``ready()``."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Round:
    """
    A job that runs ``every`` few seconds, the first time after that interval. ``what`` names it in error reports.

    ``make`` may return the seconds after which it wants to continue; None: at the next regular time.
    """

    what: str
    every: float
    make: Callable[[], float | None]


_rounds: dict[str, Round] = {}


def register(what: str, *, every: float, make: Callable[[], float | None]) -> None:
    """
    Register ``make`` to be called by each relay every ``every`` seconds.

    The relay does not publish meanwhile, so it must be short, and continue in a later call if there is more to do.
    If it raises, the relay reports a problem named ``what`` and calls it again later; nothing else is affected.

    Raises:
        ValueError: the name is taken.
    """
    if _rounds.setdefault(what, Round(what, every, make)).make is not make:
        raise ValueError(f"A round of relays called {what!r} exists already.")


def rounds() -> list[Round]:
    """Return every registered round."""
    return list(_rounds.values())
