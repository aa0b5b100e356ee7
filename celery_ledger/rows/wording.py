"""Texts of errors that databases can store: a task with an unstorable error would run again forever."""

import traceback
from datetime import datetime
from typing import Any

from billiard.einfo import Traceback
from celery.utils.serialization import get_pickleable_exception

#: Longest traceback that is kept, in characters; its end says most.
MAX_TRACEBACK_LENGTH = 10_000
#: Longest error text that is read, in characters.
MAX_WORDS = 2_000


def storable(text: str) -> str:
    """Return ``text`` without what PostgreSQL cannot store: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode("utf-8")


def words_of(error: BaseException) -> str:
    """Return the class and the message of any error."""
    return storable(f"{type(error).__name__}: {said_by(error)}")


def said_by(thing: object) -> str:
    """Return ``str(thing)``, shortened, or a note that it has none."""
    try:
        return str(thing)[:MAX_WORDS]
    except Exception as error:  # noqa: BLE001 - any method of a project: it may raise anything
        return f"<{type(thing).__name__} that cannot be told: {type(error).__name__}>"


def shown(thing: object) -> str:
    """Return ``repr(thing)``, shortened, or a note that it has none."""
    try:
        return repr(thing)[:MAX_WORDS]
    except Exception as error:  # noqa: BLE001 - as above
        return f"<{type(thing).__name__} that cannot be shown: {type(error).__name__}>"


def traceback_of(error: BaseException) -> str:
    """Return the end of an error's traceback."""
    return storable("".join(traceback.format_exception(error))[-MAX_TRACEBACK_LENGTH:])


def sendable(error: BaseException) -> BaseException:
    """Return an error in a form that can be sent to other processes, as log handlers do: itself or a substitute."""
    safe: BaseException = get_pickleable_exception(error)
    return safe


def exc_info_of(error: BaseException) -> Any:
    """Return the ``exc_info`` of an error for a log record, with its traceback, in a form that can be sent."""
    safe, trace = sendable(error), error.__traceback__
    return type(safe), safe, trace and Traceback(trace)


def to_the_millisecond(moment: datetime | None) -> str:
    """Return a time in UTC for display; empty for None."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3] if moment else ""
