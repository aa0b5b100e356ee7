"""Output to the terminal: whole lines, and one line that is updated."""

import sys
import time
from contextlib import suppress


def say(text: str = "") -> None:
    """Print a line immediately, even into a pipe; a missing reader is not an error."""
    with suppress(OSError):
        print(text, flush=True)


class MovingLine:
    """
    A line that is overwritten to show progress.

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
        """Replace the line with its final state and start a new one."""
        say(f"\r\033[K{text}" if self._moves else text)
