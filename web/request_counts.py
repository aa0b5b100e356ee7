"""
How many requests this process has begun and finished, counted without a lock.

Each thread counts for itself, and the reader adds the threads up: a request never waits for another
request's counting. Counted by ``RequestIDMiddleware``, which every request goes through on the thread that
answers it, and not by receivers of ``request_started``: under ASGI that signal is sent asynchronously, and
every synchronous receiver of it would cost each request a change of threads.
"""

import threading
from dataclasses import dataclass


@dataclass
class Tally:
    """Requests of one thread. Only that thread writes to it."""

    started: int = 0
    finished: int = 0
    failed: int = 0


class RequestCounts:
    """Tallies by thread. Those of threads that have ended are kept: the sums never go down."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._tallies: list[Tally] = []

    def of_this_thread(self) -> Tally:
        """Return the calling thread's tally."""
        try:
            tally: Tally = self._own.tally
        except AttributeError:
            tally = self._own.tally = Tally()
            self._tallies.append(tally)  # One step for the interpreter: nobody's is lost.
        return tally

    def total(self) -> Tally:
        """Return the sums of all threads at about this moment. ``failed`` counts answers of 500 and above."""
        tallies = list(self._tallies)
        return Tally(
            started=sum(tally.started for tally in tallies),
            finished=sum(tally.finished for tally in tallies),
            failed=sum(tally.failed for tally in tallies),
        )


#: This process's.
counts = RequestCounts()
