"""Speaking to the person at the terminal: whole lines, and one line that moves."""

import sys
import time
from contextlib import suppress


def say(text: str = "") -> None:
    """Print a line now, also where the output is a pipe; a missing reader is not an error."""
    with suppress(OSError):
        print(text, flush=True)


class MovingLine:
    """
    A line that is overwritten while something goes on.

    Where the output is not a terminal, a new line is printed instead, at most one in five seconds.
    """

    def __init__(self) -> None:
        self._moves = sys.stdout.isatty()
        self._shown = ""
        self._quiet_until = time.monotonic() + 1

    def show(self, text: str) -> None:
        if text == self._shown:
            return
        if self._moves:
            with suppress(OSError):
                print(f"\r\033[K{text}", end="", flush=True)
        elif time.monotonic() >= self._quiet_until:
            say(text)
            self._quiet_until = time.monotonic() + 5
        else:
            return
        self._shown = text

    def finish(self, text: str) -> None:
        """Replace the line by its last state and go on to the next."""
        say(f"\r\033[K{text}" if self._moves else text)
