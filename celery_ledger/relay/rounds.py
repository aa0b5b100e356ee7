"""What every relay does now and then, beside its turns: one registers it in an app's ``ready()``."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Round:
    """
    Something to do ``every`` few seconds, first after that time. ``what`` names it where it fails.

    ``make`` may return the seconds after which it wants to go on; None: until the next time.
    """

    what: str
    every: float
    make: Callable[[], float | None]


_rounds: dict[str, Round] = {}


def register(what: str, *, every: float, make: Callable[[], float | None]) -> None:
    """
    Have each relay call ``make`` every ``every`` seconds.

    It keeps the relay from publishing meanwhile, so it takes a moment, and goes on later if there is more to do.
    A round that raises is a trouble of the relay, named ``what``, and is made again; nothing else suffers.

    Raises:
        ValueError: the name is taken.
    """
    if _rounds.setdefault(what, Round(what, every, make)).make is not make:
        raise ValueError(f"A round of relays called {what!r} exists already.")


def rounds() -> list[Round]:
    """Return every registered round."""
    return list(_rounds.values())
