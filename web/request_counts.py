"""
Counts of this process's started and finished requests, without a lock.

Each thread counts separately, and the reader adds up the threads, so that no request waits for another to count.
Counted by ``RequestIDMiddleware``, which every request goes through on the thread that answers it, and not by receivers
of ``request_started``: under ASGI that signal is sent asynchronously, and every synchronous receiver of it would cost
each request a change of threads.
"""

import threading
from dataclasses import dataclass


@dataclass
class Count:
    """Requests of one thread. Only that thread writes to it."""

    started: int = 0
    finished: int = 0
    failed: int = 0


class RequestCounts:
    """Counts by thread. Counts of ended threads are kept: the sums never decrease."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._of_threads: list[Count] = []

    def of_this_thread(self) -> Count:
        """Return the count of the calling thread."""
        try:
            count: Count = self._own.count
        except AttributeError:
            count = self._own.count = Count()
            self._of_threads.append(count)  # A single step for the interpreter, so no count is lost.
        return count

    def total(self) -> Count:
        """Return the approximate current sums over all threads. ``failed`` counts responses of 500 and above."""
        threads = list(self._of_threads)
        return Count(
            started=sum(each.started for each in threads),
            finished=sum(each.finished for each in threads),
            failed=sum(each.failed for each in threads),
        )


#: This process's.
counts = RequestCounts()
