"""
A call of a durable task, validated in full when it is made.

What a row cannot hold is refused here, where the caller still gets the error: the INSERT comes later, for all calls of
a block at once, and must not fail because of one of them.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from kombu.utils.json import JSONEncoder

from celery_ledger.context import current_request_id, current_subject
from celery_ledger.ids import row_id
from celery_ledger.models import PRIORITIES, DurableTask, Priority
from celery_ledger.uuid7 import uuid7

#: Arguments are meant to be ids: this is far more than any task should be given, and far less than a column can hold.
MOST_CHARACTERS: Final = 4 * 1024 * 1024
#: SQLite reads JSON up to a thousand levels deep, and Python recurses about as far.
DEEPEST: Final = 200
#: A time further ahead could not be read back everywhere, and is a mistake.
FURTHEST_AHEAD: Final = timedelta(days=36_525)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WIDTHS: Final[dict[str, int]] = {"name": 255, "unique_key": 255, "subject": 64, "request_id": 64}
#: Maximum length of a ``task_id`` that is not a UUID: result backends accept no longer ones.
LONGEST_ID: Final = 255
#: How many starts a row can count.
MOST_ATTEMPTS: Final = 32_767
#: Created once: ``json.dumps`` creates one for each call with ``default``.
_ENCODER: Final = JSONEncoder(allow_nan=False, ensure_ascii=False)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(kw_only=True, slots=True)  # Never changed once made; frozen=True would double the cost of making one.
class Call:
    """
    One call, in the form that a row stores.

    ``countdown`` is in seconds from the database's current time, and so is ``expires`` unless it is a datetime; ``eta``
    overrides ``countdown``.

    ``args`` and ``kwargs`` are copies returned by :func:`arguments_as_json`, so that later changes do not affect them.
    """

    name: str
    queue: str
    args: str = "[]"
    kwargs: str = "{}"
    priority: int = Priority.NORMAL
    countdown: float = 0.0
    eta: datetime | None = None
    expires: datetime | float | None = None
    unique_key: str | None = None
    #: Until when its row holds the key: one of :class:`DurableTask.UniqueFor`; None means while the ledger has the row.
    unique_for: str | None = None
    #: The maximum in seconds, if it is a number of seconds.
    term: float | None = None
    #: If it replaces a row: for how many seconds after the first such call that row may be postponed.
    at_most: float | None = None
    #: Whether this call replaces what the existing row holds from an earlier call.
    replaces: bool = False
    #: As JSON; see :mod:`celery_ledger.rows.options`.
    options: str | None = None
    #: The canvas it belongs to: a chain, group or chord.
    canvas: UUID | None = None
    id: UUID = field(default_factory=uuid7)
    #: Called with the id of the row that the ledger already has for the ``unique_key``.
    on_known: Callable[[UUID], None] | None = None
    #: Called if the database refuses the row after all.
    blame: Callable[[Exception], None] | None = field(default_factory=lambda: _blame.get())
    #: Says whether the savepoint in which it was made still stands; None if it was made outside of any savepoint.
    mark: Any = None
    #: The calls that a chord's body waits for, including this one; see :mod:`celery_ledger.rows.headers`.
    header: Any = None
    subject: str | None = field(default_factory=lambda: _shortened(current_subject(), "subject"))
    request_id: str = field(default_factory=lambda: _shortened(current_request_id(), "request_id") or "")

    @property
    def kept_key(self) -> str | None:
        """The key, if its row holds it as long as the row exists."""
        return self.unique_key if self.unique_for is None else None

    @property
    def standing_key(self) -> str | None:
        """The key, if the row's status decides how long the row holds it."""
        return None if self.unique_for is None else self.unique_key


_blame: ContextVar[Callable[[Exception], None] | None] = ContextVar("blame", default=None)


@contextmanager
def blaming(who: Callable[[Exception], None]) -> Iterator[None]:
    """
    If the database refuses calls made in this block, report it to ``who`` and write all other calls.

    For collected calls: by then, the code that made them has long returned.
    """
    token = _blame.set(who)
    try:
        yield
    finally:
        _blame.reset(token)


def arguments_as_json(name: str, value: Any, *, what: str = "arguments", most: int = MOST_CHARACTERS) -> str:
    """
    Return the arguments of task ``name`` as JSON that every supported database can store.

    What Celery's JSON takes is taken: moments, dates, times, Decimals, UUIDs and bytes, and what is registered with
    kombu.

    Raises:
        TypeError: the arguments are not JSON, or hold text that PostgreSQL cannot store: NUL, or half a surrogate pair.
        ValueError: the arguments are too large, or nested too deeply.
    """
    if not value and value in ((), [], {}):
        return "{}" if isinstance(value, dict) else "[]"
    try:
        text: str = _ENCODER.encode(value)
        text.encode()
    except Exception as error:  # noqa: BLE001 - an object of the project may raise anything when asked for its JSON
        raise TypeError(
            f"The {what} of {name} must be JSON, such as ids and strings: {error}. "
            f"Pass an object's id and load it in the task."
        ) from None
    if "\\u0000" in text and _NUL.search(text):
        raise TypeError(f"The {what} of {name} must be JSON without NUL characters, which no database keeps.")
    if len(text) > most:
        raise ValueError(f"The {what} of {name} took {len(text)} characters of JSON; {most} are allowed.")
    if text.count("[") + text.count("{") > DEEPEST and _depth(json.loads(text)) > DEEPEST:
        raise ValueError(f"The {what} of {name} are nested more than {DEEPEST} deep.")
    return text


def checked_key(name: str, key: Any, *, option: str = "unique_key") -> str | None:
    """
    Return a key, checked to fit a row.

    Raises:
        TypeError: it is not a string.
        ValueError: it is too long, or holds characters that no database can store.
    """
    if key is None:
        return None
    if not isinstance(key, str):
        raise TypeError(f"{name}: a {option} is a string, not {key!r}.")
    longest = _WIDTHS["unique_key"]
    if len(key) > longest:
        raise ValueError(f"{name}: a {option} has at most {longest} characters, and this one {len(key)}.")
    if not is_storable(key):
        raise ValueError(f"{name}: a {option} holds no NUL and no half a surrogate pair: {key!r}.")
    return key


def checked_unique_for(name: str, unique_for: Any) -> tuple[str | None, float | None]:
    """
    Return until when, and for how many seconds at most, a row holds its key; None: as long as it exists.

    Raises:
        TypeError: it is neither a word nor a number of seconds.
        ValueError: there is no such word, or it is not a number of seconds above 0.
    """
    if unique_for is None or unique_for == "kept":
        return None, None
    if isinstance(unique_for, str):
        if unique_for not in DurableTask.UniqueFor.values:
            raise ValueError(f"{name}: unique_for is 'pending', 'done', 'kept' or in seconds, not {unique_for!r}.")
        return str(unique_for), None
    seconds = checked_countdown(name, _as_seconds(unique_for), "unique_for")
    if not seconds:
        raise ValueError(f"{name}: a key is unique for more than no seconds.")
    return None, seconds


def checked_debounce(name: str, debounce: Any) -> float:
    """
    Return the seconds from the last of several calls until their common row is due.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not finite, or too far ahead.
    """
    return checked_countdown(name, _as_seconds(debounce), "debounce")


def checked_name(name: Any) -> str:
    """
    Return a task's name, checked to fit a row.

    Raises:
        ValueError: it is empty, too long, or cannot be stored in a database.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _WIDTHS["name"] or not is_storable(name):
        raise ValueError(f"A task's name has 1 to {_WIDTHS['name']} characters, without NUL; not {name!r}.")
    return name


def checked_priority(name: str, priority: Any) -> int:
    """
    Return a priority, 0 (first) to 9 (last).

    Raises:
        ValueError: it is none.
    """
    if priority is None:
        return Priority.NORMAL
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
        raise ValueError(f"{name}: a priority is a number from 0, which is first, to 9; not {priority!r}.")
    return int(priority)


def checked_countdown(name: str, countdown: Any, what: str = "a countdown") -> float:
    """
    Return the seconds from now until a call is due.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not finite, or too far ahead.
    """
    if countdown is None:
        return 0.0
    if isinstance(countdown, bool) or not isinstance(countdown, (int, float)):
        raise TypeError(f"{name}: {what} is in seconds, not {countdown!r}.")
    # Infinite values and NaN are not between the two either. What was due long ago is due now.
    if not countdown <= FURTHEST_AHEAD.total_seconds():
        raise ValueError(f"{name}: {what} is a number of seconds, and not over a hundred years.")
    return float(max(countdown, 0))


def checked_eta(name: str, eta: Any, what: str = "an eta") -> datetime | None:
    """
    Return the due time of a call, in UTC. A time without a zone is in the project's zone.

    Raises:
        TypeError: it is neither a datetime nor an ISO 8601 string.
        ValueError: it is too far ahead, or the string is not a time.
    """
    if eta is None:
        return None
    moment = parse_datetime(eta) if isinstance(eta, str) else eta
    if moment is None:
        raise ValueError(f"{name}: {what} of {eta!r} is not a time in ISO 8601.")
    if not isinstance(moment, datetime):
        raise TypeError(f"{name}: {what} is a datetime or an ISO 8601 string, not {eta!r}.")
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # In the first or last hours that a datetime can represent.
        moment = datetime.min.replace(tzinfo=UTC) if moment.year == 1 else datetime.max.replace(tzinfo=UTC)
    if moment > timezone.now() + FURTHEST_AHEAD:
        raise ValueError(f"{name}: {what} of {moment:%Y-%m-%d} is over a hundred years ahead.")
    return max(moment, _EARLIEST)


def checked_expires(name: str, expires: Any) -> datetime | float | None:
    """
    Return when a call expires: a moment, or seconds from now.

    Raises:
        TypeError: it is neither.
        ValueError: it is too far ahead, or is not a time.
    """
    if expires is None:
        return None
    if isinstance(expires, (datetime, str)):
        return checked_eta(name, expires, "an expires")
    return checked_countdown(name, expires, "an expires")


def checked_id(name: str, task_id: Any) -> UUID:
    """
    Return the row id for a call with an id of its own; see :mod:`celery_ledger.ids`.

    Raises:
        ValueError: ``task_id`` is empty, too long, or holds characters that no database can store.
    """
    text = str(task_id)
    if not 0 < len(text) <= LONGEST_ID or not is_storable(text):
        raise ValueError(f"{name}: a task_id has 1 to {LONGEST_ID} characters, without NUL; not {text[:300]!r}.")
    return row_id(task_id)


def checked_limit(name: str, max_retries: Any) -> int:
    """
    Return how often a task with this ``max_retries`` may be started.

    Raises:
        ValueError: it is not a count, or larger than a row can hold.
    """
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or not 0 <= max_retries < MOST_ATTEMPTS:
        raise ValueError(f"{name}: max_retries is a number from 0 to {MOST_ATTEMPTS - 1}, not {max_retries!r}.")
    return max_retries + 1


def is_storable(text: str) -> bool:
    """Whether databases can store ``text``: PostgreSQL accepts neither NUL nor half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _as_seconds(length: Any) -> Any:
    return length.total_seconds() if isinstance(length, timedelta) else length


def _shortened(text: str | None, column: str) -> str | None:
    """Return a call's context, cut to its column's length: no call is refused because of its context."""
    if text is None or (is_storable(text) and len(text) <= _WIDTHS[column]):
        return text
    return text.encode(errors="replace").decode().replace("\0", "?")[: _WIDTHS[column]]


def _depth(value: Any) -> int:
    """Return the nesting depth of JSON. Its reader has no limit; ``json.dumps`` has checked that it is finite."""
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list, tuple))
        ]
    return deepest
