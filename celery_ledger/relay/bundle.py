"""Which rows of the ledger travel together in one message."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from uuid import UUID

from celery import Celery

from celery_ledger.rows import ledger

#: Up to so many rows of several batched tasks share one message; more go as one message a task.
MIXED_LIMIT = 60
#: The task that runs messages of several tasks; see celery_ledger/tasks.py.
MIXED_TASK = "celery_ledger.tasks.run_mixed"


@dataclass(frozen=True)
class Message:
    """Rows that travel together."""

    queue: str
    name: str
    ids: tuple[UUID, ...]
    #: How many rows a message like it could carry.
    most: int = 1

    def halves(self) -> "tuple[Message, Message]":
        """Return two messages that carry the rows of this one."""
        middle = len(self.ids) // 2
        return replace(self, ids=self.ids[:middle]), replace(self, ids=self.ids[middle:])


def size_of(app: Celery, name: str, lapses: int) -> int:
    """
    Return how many rows like this one share a message at the most.

    A row that may be what kills its workers travels alone, and so does one of a task that this process
    does not know, as during a deploy.
    """
    task = app.tasks.get(name)
    return task.batch_size if task is not None and task.transactional and lapses < ledger.SUSPECT_LAPSES else 1


def bundle(app: Celery, rows: Iterable[ledger.Claimed]) -> Iterator[Message]:
    """Decide which rows travel together: only in one queue, and only such as declare batches; see :func:`size_of`."""
    batched: dict[str, dict[str, list[UUID]]] = defaultdict(lambda: defaultdict(list))
    sizes: dict[str, int] = {}
    for row in rows:
        size = size_of(app, row.name, row.lapses)
        if size == 1:
            yield Message(row.queue, row.name, (row.id,))
        else:
            sizes[row.name] = size
            batched[row.queue][row.name].append(row.id)
    for queue, tasks in batched.items():
        if len(tasks) > 1 and sum(map(len, tasks.values())) <= MIXED_LIMIT:
            together = tuple(id for ids in tasks.values() for id in ids)
            yield Message(queue, MIXED_TASK, together, sum(sizes[name] for name in tasks))
            continue
        for name, ids in tasks.items():
            for start in range(0, len(ids), sizes[name]):
                yield Message(queue, name, tuple(ids[start : start + sizes[name]]), sizes[name])
