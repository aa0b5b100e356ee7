"""Output whose reader has gone, as in ``manage.py outbox dead | head``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unheard_from_here_on() -> Iterator[None]:
    """
    End a command quietly, with the exit code that a shell expects, if its reader has gone.

    Raises:
        SystemExit: the reader has gone.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would report it again when it flushes the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # The status of a process killed by SIGPIPE.
