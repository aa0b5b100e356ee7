"""
Ordinary, single-item tasks that ride together: their effects and their completion share one transaction, a slice.

One statement completes the rows of a slice, their bodies run one after the other, each behind a savepoint that its
first query opens, and one statement records the outcomes. A slice also ends when its time is up. A failing body affects
no other. Locks are held until the end of a slice, so a body that waits for a lock ends it: the work done so far is
committed, and that row runs by itself. See docs/adr/0016.
"""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from time import monotonic
from typing import Any, Final
from uuid import UUID

from celery.exceptions import Ignore

from celery_ledger import conf
from celery_ledger.databases import atomic
from celery_ledger.faults import crash_point
from celery_ledger.guard import Guard, SpoiledError
from celery_ledger.rows import ledger, paces
from celery_ledger.rows.outbox import collecting
from celery_ledger.work import bodies
from celery_ledger.work.concluding import Success, conclude
from celery_ledger.work.limits import limits_of
from celery_ledger.work.runnable import Runnable
from celery_ledger.work.running import Outcomes, outcome_of, task_named
from celery_ledger.work.telling import as_current

logger = logging.getLogger(__name__)

#: Approximate seconds that a body in a slice waits for a lock: far less than a server's deadlock timeout.
LOCK_PATIENCE: Final = 0.025
#: A message that has taken the time of this many slices is left; its remaining rows go to any free worker.
MOST_SLICES: Final = 4
#: PostgreSQL's error codes for a lock timeout, a deadlock, and a conflict between transactions.
CONFLICTS: Final = frozenset({"55P03", "40P01", "40001"})

company = paces.Company()


class RepeatedError(Exception):
    """A body without a savepoint failed: the rows of its slice run again without it."""

    def __init__(self, id: UUID) -> None:
        super().__init__(str(id))
        self.id = id


@dataclass
class Slice:
    """The outcome of the rows of one transaction."""

    started: list[ledger.Started] = field(default_factory=list)
    successes: list[Success] = field(default_factory=list)
    failed: list[tuple[Runnable, ledger.Started, Exception]] = field(default_factory=list)
    #: Not started, because time was up.
    left: list[UUID] = field(default_factory=list)
    #: To be run by themselves.
    alone: list[UUID] = field(default_factory=list)
    #: Seconds that its bodies wait for a lock; differs between slices, or two in conflict would give way together.
    patience: float = field(default_factory=lambda: LOCK_PATIENCE * random.uniform(0.75, 1.25))  # noqa: S311
    #: Whether this limit has been set in the database.
    is_impatient: bool = False

    def undone(self) -> list[UUID]:
        """Return the rows that its transaction completed too early."""
        return [*self.left, *self.alone, *(row.id for _, row, _ in self.failed)]


def run(task: Runnable, ids: Sequence[UUID], outcomes: Outcomes) -> list[UUID]:
    """
    Run the rows of a message in as few short transactions as possible, and return those to be run one by one.

    Rows that would wait for locks come last. Rows not started when the time of a few slices is up go back to the
    ledger, for any free worker.
    """
    began = monotonic()
    rest, alone, waiting = list(ids), list[UUID](), list[UUID]()
    while rest:
        size = company.size(task.name, len(rest))
        part, rest = rest[:size], rest[size:]
        if len(part) == 1:
            alone += part
            company.success(task.name)
            continue
        done = _run_slice(task, part, outcomes)
        if done is None:
            alone += part
        else:
            waiting += done.alone
            rest = [*done.left, *rest]
        if rest and monotonic() - began > MOST_SLICES * conf.SLICE.value / 1000:
            outcomes.handed_on += ledger.hand_on(rest)
            paces.flush_if_due(at_once=True)
            break
    return alone + waiting


def _run_slice(task: Runnable, ids: Sequence[UUID], outcomes: Outcomes) -> Slice | None:
    """Run rows in one transaction. None: they failed together, and are unchanged."""
    began = monotonic()
    done = Slice()
    try:
        with atomic():
            _run_rows(task, ids, outcomes, done)
            crash_point("consumer.before_commit")
            conclude(done.successes, before=ledger.wait_as_ever if done.is_impatient else None)
    except RepeatedError as failed:
        others = [id for id in ids if id != failed.id]
        done = (_run_slice(task, others, outcomes) if len(others) > 1 else None) or Slice(alone=others)
        done.alone.append(failed.id)
        return done
    except Exception as error:  # noqa: BLE001 - whatever it was, each row is run again and judged alone
        logger.warning("%d rows in a message of %s failed together and run one by one: %r", len(ids), task.name, error)
        if is_conflict(error):
            _note_conflict(task.name, len(ids), [row.name for row in done.started])
        return None
    crash_point("consumer.after_commit")
    if done.started:
        paces.note_slice(task.name, len(done.successes), monotonic() - began)
    if not done.alone:
        company.success(task.name)
        paces.note_rides({row.name for row in done.started})
    for success in done.successes:
        outcomes.succeed(success.task, success.row, success.outcome.value)
    for named, row, cause in done.failed:
        outcomes.fail(named, row, cause, counted=False)
    return done


def _run_rows(task: Runnable, ids: Sequence[UUID], outcomes: Outcomes, done: Slice) -> None:
    """Run the rows of a slice inside its transaction."""
    done.started = ledger.complete(ids)
    crash_point("consumer.before_effect")
    if not done.started:
        return
    rows = [(task_named(task, row.name), row) for row in done.started]
    with collecting() as calls:
        batched = [(named, row) for named, row in rows if named.batch_size > 1]
        for _, group in groupby(sorted(batched, key=lambda pair: pair[1].name), key=lambda pair: pair[1].name):
            members = list(group)
            done.successes += run_batch(members[0][0], [row for _, row in members], outcomes)
        places = {id: place for place, id in enumerate(ids)}
        riders = sorted((pair for pair in rows if pair[0].batch_size == 1), key=lambda pair: places[pair[1].id])
        if any(rider.repeatable for rider, _ in riders):
            ledger.wait_for_locks(done.patience)
            done.is_impatient = True
        began = monotonic()
        _run_riders(task, riders, outcomes, done, calls)
        company.note(task.name, len(riders) - len(done.left), monotonic() - began)
    if undone := done.undone():
        ledger.take_back(undone, lease=conf.PUBLISHED_LEASE.value)


def _run_riders(
    message: Runnable,
    riders: Sequence[tuple[Runnable, ledger.Started]],
    outcomes: Outcomes,
    done: Slice,
    calls: list[Any],
) -> None:
    """Run bodies one after the other until all are done, time is up, or one of them waits for a lock."""
    ends_at = monotonic() + conf.SLICE.value / 1000
    for number, (task, row) in enumerate(riders):
        if number and monotonic() >= ends_at:
            done.left += [row.id for _, row in riders[number:]]
            return
        crash_point("slice.between_bodies")
        made = len(calls)
        try:
            done.successes.append(_ride(task, row, outcomes, done))
        except Exception as error:
            del calls[made:]
            if is_conflict(error):
                _note_conflict(message.name, len(riders), [row.name])
                done.alone.append(row.id)
                done.left += [row.id for _, row in riders[number + 1 :]]
                return
            if task.repeatable:
                raise RepeatedError(row.id) from error
            if isinstance(error, SpoiledError):
                done.alone.append(row.id)
            else:
                done.failed.append((task, row, error))


def _ride(task: Runnable, row: ledger.Started, outcomes: Outcomes, done: Slice) -> Success:
    telling = outcomes.telling(task, row)
    with _guard(task, done), as_current([telling]), limits_of(_with_limits_of(task, row)), paces.measured(row.name):
        value = bodies.run(task, telling.request, *row.args, **row.kwargs)
    return Success(task, row, outcome_of(task, row, value))


@contextmanager
def _guarded(done: Slice) -> Iterator[None]:
    guard = Guard(releases=False, lock_patience=None if done.is_impatient else done.patience)
    try:
        with guard:
            yield
    finally:
        done.is_impatient |= guard.is_open


def _guard(task: Runnable, done: Slice) -> AbstractContextManager[None]:
    return nullcontext() if task.repeatable else _guarded(done)


def run_batch(task: Runnable, rows: list[ledger.Started], outcomes: Outcomes) -> list[Success]:
    """Run the body of a task that takes a list, for all of ``rows``; exceptions of the body propagate."""
    tellings = [outcomes.telling(task, row) for row in rows]
    with as_current(tellings), collecting(), paces.measured(task.name, len(rows)):
        value = bodies.run(task, tellings[0].request, [row.args[0] for row in rows])
    said = value if isinstance(value, Ignore) else None
    return [Success(task, row, outcome_of(task, row, said)) for row in rows]


def _with_limits_of(task: Runnable, row: ledger.Started) -> ledger.Started:
    """Return the row with its task's time limits if its call has none: in a slice, nothing else enforces them."""
    called = (row.options or {}).get("timelimit") or (None, None)
    limits = [own or of_task for own, of_task in zip(called, (task.time_limit, task.soft_time_limit), strict=True)]
    return replace(row, options={**(row.options or {}), "timelimit": limits}) if any(limits) else row


def is_conflict(error: BaseException) -> bool:
    """Whether an error was caused by a lock or a concurrent change of another transaction."""
    return any(getattr(each, "sqlstate", None) in CONFLICTS for each in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _note_conflict(message: str, rows: int, names: Sequence[str]) -> None:
    company.conflict(message, rows)
    for name in set(names):
        paces.note_conflict(name)
