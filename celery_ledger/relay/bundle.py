"""Which rows of the ledger travel together in one message."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from celery import Celery

from celery_ledger import conf
from celery_ledger.rows import ledger
from celery_ledger.rows.paces import UNKNOWN, Known

#: Up to this many rows of several batched tasks share one message; more go as one message per task.
MIXED_LIMIT = 60
#: The task that runs messages of several tasks; see celery_ledger/tasks.py.
MIXED_TASK = "celery_ledger.tasks.run_mixed"
#: Rows that are due together go out in this many messages, so that all idle workers get one, unless the bodies of a
#: message would take less than this part of a slice: a message itself costs as much.
SPREAD = 4
LEAST_SHARE = 0.1
ROUNDING = 1e-9

#: What is known about how long tasks take.
Paces = Mapping[str, Known]
#: For each queue, a queue that stands for all those that the same workers serve; see celery_ledger/relay/crews.py.
Crews = Mapping[str, str]


@dataclass(frozen=True)
class Message:
    """Rows that travel together."""

    queue: str
    name: str
    ids: tuple[UUID, ...]
    #: How many rows a message of this kind could carry.
    most: int = 1
    #: Whether it is a slice of work: rows of single-item tasks.
    is_slice: bool = False

    def halves(self) -> "tuple[Message, Message]":
        """Return two messages that carry the rows of this one."""
        middle = len(self.ids) // 2
        return replace(self, ids=self.ids[:middle]), replace(self, ids=self.ids[middle:])


def size_of(app: Celery, name: str, lapses: int, paces: Paces) -> int:
    """
    Return how many rows like this one may share a message.

    A row that may have killed its workers travels alone, and so does a row of a task that this process
    does not know, for example during a deploy.
    """
    task = app.tasks.get(name)
    if task is None or lapses >= ledger.SUSPECT_LAPSES:
        return 1
    if task.transactional and task.batch_size > 1:
        return int(task.batch_size)
    known = paces.get(name, UNKNOWN)
    if not rides(task) or not (task.transactional or known.is_enough):
        return 1
    return known.rows(conf.SLICE.value / 1000)


def rides(task: Any) -> bool:
    """
    Whether rows of a single-item task may share messages at all, however long they take.

    Rows with effects outside the database do so only if the task is known to be quick and has no time limits of its
    own: Celery enforces those per message.
    """
    if not getattr(task, "durable", False) or not task.acks_late:
        return False
    if not task.transactional and has_limits(task):
        return False
    return bool(conf.RIDES.value if task.rides is None else task.rides)


def bundle(
    app: Celery,
    rows: Iterable[ledger.Claimed],
    paces: Paces,
    free: Mapping[str, int] | None = None,
    crews: Crews | None = None,
) -> Iterator[Message]:
    """
    Decide which rows travel together: rows of batched tasks, and riders; see :func:`size_of`.

    Each kind keeps the order of ``rows``. ``free`` says how many messages fit into the queues. Transactional rows of
    several queues share a message if ``crews`` says that the same workers serve these queues, and if their work is
    known to be short; it goes to the one with the most room.
    """
    batched: dict[str, dict[tuple[str, str], list[UUID]]] = defaultdict(lambda: defaultdict(list))
    riders: dict[tuple[str, str], list[ledger.Claimed]] = defaultdict(list)
    sizes: dict[str, int] = {}
    for row in rows:
        size = size_of(app, row.name, row.lapses, paces)
        if size == 1:
            yield Message(row.queue, row.name, (row.id,))
            continue
        sizes[row.name] = size
        task = app.tasks[row.name]
        crew = (crews or {}).get(row.queue, row.queue)
        if task.batch_size > 1:
            batched[crew][row.queue, row.name].append(row.id)
        elif task.transactional:
            riders[crew if _is_known(row.name, paces) else row.queue, ""].append(row)
        else:
            riders[row.queue, row.name].append(row)
    kinds = Counter(queue for queue, _ in riders)
    for (queue, _), company in riders.items():
        spread = max(1, min(SPREAD, (free or {}).get(queue, SPREAD)) // kinds[queue])
        yield from _in_company(app, company, sizes, paces, spread)
    for tasks in batched.values():
        yield from _of_batches(tasks, sizes, paces, free or {})


def _of_batches(
    tasks: Mapping[tuple[str, str], Sequence[UUID]], sizes: Mapping[str, int], paces: Paces, free: Mapping[str, int]
) -> Iterator[Message]:
    """Divide rows of batched tasks, by queue and name: one message for all, for each queue, or for each task."""
    by_queue: dict[str, dict[tuple[str, str], Sequence[UUID]]] = defaultdict(dict)
    for (queue, name), ids in tasks.items():
        by_queue[queue][queue, name] = ids
    if len(by_queue) > 1 and sum(map(len, tasks.values())) <= MIXED_LIMIT and _are_short(tasks, paces):
        by_queue = {max(by_queue, key=lambda queue: free.get(queue, 0)): dict(tasks)}
    for queue, own in by_queue.items():
        if len(own) > 1 and sum(map(len, own.values())) <= MIXED_LIMIT:
            together = tuple(id for ids in own.values() for id in ids)
            yield Message(queue, MIXED_TASK, together, sum(sizes[name] for _, name in own))
            continue
        for (_, name), ids in own.items():
            for start in range(0, len(ids), sizes[name]):
                yield Message(queue, name, tuple(ids[start : start + sizes[name]]), sizes[name])


def _are_short(tasks: Mapping[tuple[str, str], Sequence[UUID]], paces: Paces) -> bool:
    """Whether rows of these batched tasks are known to take one slice of work at most, and met no conflicts lately."""
    if not all(_is_known(name, paces) for _, name in tasks):
        return False
    seconds = sum(paces[name].seconds * len(ids) for (_, name), ids in tasks.items())
    return bool(seconds <= conf.SLICE.value / 1000)


def _is_known(name: str, paces: Paces) -> bool:
    known = paces.get(name, UNKNOWN)
    return known.is_enough and known.riders > 1


def _in_company(
    app: Celery, rows: Sequence[ledger.Claimed], sizes: Mapping[str, int], paces: Paces, spread: int
) -> Iterator[Message]:
    """
    Divide rows of one queue into messages of about one slice of work each, or less, so that several can start.

    A row takes up the share of a message that follows from its task's ``sizes``: a tenth if ten may share one. It takes
    a smaller share of a worker's time if its task is quick and not yet known to run well in large groups.
    """
    shares = {name: 1 / size for name, size in sizes.items()}
    times = {name: _time_of(paces.get(name, UNKNOWN), share) for name, share in shares.items()}
    longest = max(LEAST_SHARE, sum(times[row.name] for row in rows) / spread)
    part: list[ledger.Claimed] = []
    filled = took = 0.0
    for row in rows:
        share, time = shares[row.name], times[row.name]
        if part and (filled + share > 1 + ROUNDING or took + time > longest + ROUNDING):
            yield _of_riders(app, part, sizes)
            part, filled, took = [], 0.0, 0.0
        part.append(row)
        filled += share
        took += time
    yield _of_riders(app, part, sizes)


def _time_of(known: Known, share: float) -> float:
    """Return the fraction of a slice that a body takes, as far as is known."""
    return known.seconds / (conf.SLICE.value / 1000) if known.is_enough else share


def _of_riders(app: Celery, rows: Sequence[ledger.Claimed], sizes: Mapping[str, int]) -> Message:
    names = {row.name for row in rows}
    [name] = names if len(names) == 1 else [MIXED_TASK]
    if len(rows) > 1 and name != MIXED_TASK and has_limits(app.tasks[name]):
        name = MIXED_TASK  # Celery would apply the task's time limits to the whole message.
    most = min(sizes[row.name] for row in rows)
    return Message(rows[0].queue, name, tuple(row.id for row in rows), most, is_slice=len(rows) > 1)


def has_limits(task: Any) -> bool:
    """Whether a task has time limits of its own."""
    return bool(task.time_limit or task.soft_time_limit)
