"""
Named places where a test can have this process killed, as in a power failure.

``FAULT=consumer.before_commit:3`` kills the process with SIGKILL the third time it passes that place. Unset, a place
costs one truth test. Refused at start unless DEBUG is on (celery_ledger/checks.py). A value that names none of these
places belongs to another program and is ignored.
"""

import os
import re
import signal

__all__ = ["armed", "crash_point"]


def armed() -> "re.Match[str] | None":
    """Return the place and the passes that the environment names, or None."""
    return re.fullmatch(r"([a-z_]+\.[a-z_]+)(?::([1-9][0-9]{0,8}))?", os.environ.get("FAULT", ""))


_named = armed()
_place, _left = (_named[1], int(_named[2] or 1)) if _named else ("", 1)


def crash_point(place: str) -> None:
    """Kill this process if the fault named ``place`` is armed and its number of passes is reached."""
    global _left
    if not _place or place != _place:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
