"""
The package's settings: Django settings, each with a default, read when they are used.

No project needs to set any of them. An invalid value is refused by ``manage.py check``, and where it is
used.
"""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

__all__ = [
    "DATABASES",
    "LARGE_RESULT",
    "PUBLISHED_LEASE",
    "QUEUE_WINDOW",
    "RETENTION_DAYS",
    "RIDERS",
    "RIDES",
    "RUNNING_LEASE",
    "SETTINGS",
    "SLICE",
    "Names",
    "Setting",
    "Switch",
    "release",
]

#: Maximum length of a release name, in characters.
LONGEST_RELEASE = 64


@dataclass(frozen=True)
class Setting:
    """A number that a project may set as ``name``; ``meaning`` starts with its unit."""

    name: str
    default: int
    meaning: str
    #: The value must be greater than this.
    above: int = 0
    #: Whether it must be a whole number.
    whole: bool = False

    @property
    def value(self) -> Any:
        """
        The value that holds now.

        Raises:
            ImproperlyConfigured: the project set an invalid value.
        """
        if problem := self.problem():
            raise ImproperlyConfigured(problem)
        return self._given

    def problem(self) -> str | None:
        """Return what is wrong with the value that the project set; None: nothing."""
        value, kinds = self._given, (int,) if self.whole else (int, float)
        if isinstance(value, kinds) and not isinstance(value, bool) and self.above < value < float("inf"):
            return None
        kind = "a whole number" if self.whole else "a number"
        return f"{self.name} must be {kind} above {self.above}, and not {value!r}."

    @property
    def _given(self) -> Any:
        return getattr(settings, self.name, self.default)


@dataclass(frozen=True)
class Switch:
    """A feature that a project may turn on or off with ``name``."""

    name: str
    default: bool
    meaning: str

    @property
    def value(self) -> bool:
        """
        The value that holds now.

        Raises:
            ImproperlyConfigured: the project set an invalid value.
        """
        if problem := self.problem():
            raise ImproperlyConfigured(problem)
        return bool(self._given)

    def problem(self) -> str | None:
        """Return what is wrong with the value that the project set; None: nothing."""
        return None if isinstance(self._given, bool) else f"{self.name} must be True or False, and not {self._given!r}."

    @property
    def _given(self) -> Any:
        return getattr(settings, self.name, self.default)


@dataclass(frozen=True)
class Names:
    """A list of names that a project may set as ``name``."""

    name: str
    default: tuple[str, ...]
    meaning: str

    @property
    def value(self) -> tuple[str, ...]:
        """
        The value that holds now.

        Raises:
            ImproperlyConfigured: the project set an invalid value.
        """
        if problem := self.problem():
            raise ImproperlyConfigured(problem)
        return tuple(self._given)

    def problem(self) -> str | None:
        """Return what is wrong with the value that the project set; None: nothing."""
        given = self._given
        if isinstance(given, (list, tuple)) and given and all(isinstance(each, str) for each in given):
            return f"{self.name} names a database twice: {given!r}." if len(set(given)) < len(given) else None
        return f"{self.name} must be a list of names, and not {given!r}."

    @property
    def _given(self) -> Any:
        return getattr(settings, self.name, self.default)


PUBLISHED_LEASE = Setting(
    "LEDGER_PUBLISHED_LEASE",
    60,
    "seconds after which a published task is published again if no worker has acknowledged it",
    above=5,  # After this many seconds, a task whose queue is empty counts as lost; see celery_ledger/relay/relay.py.
)
RUNNING_LEASE = Setting(
    "LEDGER_RUNNING_LEASE",
    8,
    "seconds that a worker's claim on a running task lasts; renewed while it runs",
)
QUEUE_WINDOW = Setting(
    "LEDGER_QUEUE_WINDOW",
    100,
    "messages that may wait in one queue of the broker; the others wait in the database",
    whole=True,
)
RETENTION_DAYS = Setting(
    "LEDGER_RETENTION_DAYS",
    7,
    "days to keep succeeded and cancelled tasks",
)
RIDES = Switch(
    "LEDGER_RIDES",
    True,
    "whether tasks of one item share messages, and transactional ones transactions; a task's own option wins",
)
RIDERS = Setting(
    "LEDGER_RIDERS",
    50,
    "largest number of tasks of one item that share a message",
    whole=True,
)
SLICE = Setting(
    "LEDGER_SLICE",
    50,
    "milliseconds of work in a shared message; after this time a shared transaction starts no further task",
)

LARGE_RESULT = Setting(
    "LEDGER_LARGE_RESULT",
    65_536,
    "bytes of JSON; a larger result that other tasks receive is stored once, outside their rows",
    whole=True,
)
DATABASES = Names(
    "LEDGER_DATABASES",
    ("default",),
    "the database aliases that have the ledger's tables; a call goes into the one whose transaction is open",
)


def release() -> str:
    """Return the project's release, from ``LEDGER_RELEASE``; empty: it is not set."""
    return str(getattr(settings, "LEDGER_RELEASE", ""))[:LONGEST_RELEASE]


#: All settings.
SETTINGS: tuple[Setting | Switch | Names, ...] = (
    PUBLISHED_LEASE,
    RUNNING_LEASE,
    QUEUE_WINDOW,
    RETENTION_DAYS,
    RIDES,
    RIDERS,
    SLICE,
    LARGE_RESULT,
    DATABASES,
)
