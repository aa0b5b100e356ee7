"""Long jobs such as pruning, in turns that end well before any time limit."""

import time
from collections.abc import Iterable
from typing import Any

#: How long one turn is, in seconds.
TURN = 15.0


def take(task: Any, steps: Iterable[int]) -> int:
    """
    Run ``steps``, each a transaction, for one turn; if more are left, call ``task`` again. Return their sum.

    The task must be repeatable: the next call starts again with what is left.
    """
    done, end = 0, time.monotonic() + TURN
    for count in steps:
        done += count
        if time.monotonic() > end:
            task.delay()
            break
    return done
