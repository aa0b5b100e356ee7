"""
Ends the shop's processes if ``run.py`` is killed without a chance to do so itself.

``run.py`` starts it first and reports to it, through a pipe, each process group that begins (+) or has ended (-). The
pipe closes when ``run.py`` ends, for whatever reason; then the remaining groups are ended. It holds the lock file for
as long as it lives, so that the next start finds no leftover processes.
"""

import os
import signal
import sys
import time
from contextlib import suppress

PATIENCE = 7  # seconds


def end(leaders: set[int]) -> None:
    """Terminate these processes, then kill the rest of their groups."""
    for leader in leaders:
        with suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while any(map(is_there, leaders)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for leader in leaders:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def is_there(leader: int) -> bool:
    try:
        os.kill(leader, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    leaders: set[int] = set()
    for line in sys.stdin:
        leader = int(line[1:])
        if line[0] == "+":
            leaders.add(leader)
        else:
            leaders.discard(leader)
    end(leaders)


if __name__ == "__main__":
    main()
