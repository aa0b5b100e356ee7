"""
Messages that were lost from a queue that is never empty, found by the messages that came after them.

A queue is FIFO. Once a worker has run a row, everything published before that row has left the queue: a row that is
still published and that no worker has locked has lost its message. A worker may have taken it and lost its network.
"""

from collections import deque
from datetime import datetime
from uuid import UUID

from django.db.models import Max

from celery_ledger.models import DurableTask

Status = DurableTask.Status
#: Marks of a queue to remember, at most one for each sweep.
MOST_MARKS = 60


class Marks:
    """The last row that this relay published to each queue before each sweep."""

    def __init__(self) -> None:
        self._latest: dict[str, UUID] = {}
        self._marks: dict[str, deque[UUID]] = {}
        self._reached: dict[str, datetime] = {}

    def note(self, queue: str, id: UUID) -> None:
        """Note a row that was published now."""
        self._latest[queue] = id

    def look(self) -> None:
        """Keep the row published last to each queue. Called once for each sweep."""
        for queue, id in self._latest.items():
            self._marks.setdefault(queue, deque(maxlen=MOST_MARKS)).append(id)
        self._latest.clear()

    def reached(self, queue: str) -> datetime | None:
        """
        Return the time up to which the queue's rows had left it at the last call; None if that is unknown.

        At the last call, not now: by now, workers have locked the rows whose messages they were taking then.
        """
        before = self._reached.get(queue)
        # A row that was rescued may have run by its first message, which was published earlier than the row says.
        run = DurableTask.objects.filter(
            id__in=self._marks.get(queue, ()), status__in=[Status.RUNNING, Status.SUCCEEDED], lapses=0
        )
        latest = run.aggregate(latest=Max("published_at"))["latest"]
        if latest is not None:
            self._reached[queue] = latest if before is None else max(before, latest)
        return before
