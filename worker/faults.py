"""
Named places where a test can have this process killed, as by a power cut.

``FAULT=consumer.before_commit:3`` kills the process with SIGKILL the third time it passes that
place. Unset, a place costs one truth test. Refused at start unless DEBUG is on (worker/checks.py).
"""

import os
import signal

_place, _, _passes = os.environ.get("FAULT", "").partition(":")
_left = int(_passes or 1)


def crash_point(place: str) -> None:
    """Kill this process if the fault named ``place`` is armed and its number of passes is reached."""
    global _left
    if not _place or place != _place:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
