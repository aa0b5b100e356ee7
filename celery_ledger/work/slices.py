"""
Ordinary, single-item tasks that ride together: their effects and their completion share one transaction, a slice.

A statement completes a few rows at a time, their bodies run one after the other, each behind a savepoint that its first
query opens, and one statement records the outcomes of the slice. A slice also ends when its time is up. A failing body
affects no other. Locks are held until the end of a slice, so a body that waits for a lock ends it: the work done so far
is committed, and that row runs by itself. A body that takes long keeps only the few rows that were completed with it
waiting; those behind them go to any free worker. See docs/adr/0016.
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
from celery_ledger.work.keeper import LONGEST_WAIT, MessageKeeper
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

    #: The rows that it took from its message.
    taken: list[UUID] = field(default_factory=list)
    started: list[ledger.Started] = field(default_factory=list)
    successes: list[Success] = field(default_factory=list)
    failed: list[tuple[Runnable, ledger.Started, Exception]] = field(default_factory=list)
    #: Not started, because time was up.
    left: list[UUID] = field(default_factory=list)
    #: To be run by themselves, after the others.
    alone: list[UUID] = field(default_factory=list)
    #: Unchanged, because the transaction failed; to be run by themselves.
    failed_together: list[UUID] = field(default_factory=list)
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
    alone, waiting = list[UUID](), list[UUID]()
    with MessageKeeper(ids) as rest:
        while number := len(rest):
            size = company.size(task.name, number)
            if size == 1:
                alone += rest.take(1)
                company.success(task.name)
                continue
            done = _run_slice(task, rest, size, outcomes)
            alone += done.failed_together
            waiting += done.alone
            rest.put_back(done.left)
            if rest and monotonic() - began > MOST_SLICES * conf.SLICE.value / 1000:
                outcomes.handed_on += ledger.hand_on(rest.take(len(rest)))
                paces.flush_if_due(at_once=True)
                break
    outcomes.handed_on += rest.handed_on
    return alone + waiting


def _run_slice(task: Runnable, rest: MessageKeeper, size: int, outcomes: Outcomes) -> Slice:
    """Run at most ``size`` of the rest of a message in one transaction."""
    began = monotonic()
    done = Slice()
    try:
        with atomic():
            _run_rows(task, rest, size, outcomes, done)
            crash_point("consumer.before_commit")
            conclude(done.successes, before=ledger.wait_as_ever if done.is_impatient else None)
    except RepeatedError as failed:
        others = MessageKeeper([id for id in done.taken if id != failed.id])
        again = _run_slice(task, others, len(others), outcomes)
        again.left += others.take(len(others))
        again.alone.append(failed.id)
        return again
    except Exception as error:  # noqa: BLE001 - whatever it was, each row is run again and judged alone
        number = len(done.taken)
        logger.warning("%d rows in a message of %s failed together and run one by one: %r", number, task.name, error)
        if is_conflict(error):
            _note_conflict(task.name, number, [row.name for row in done.started])
        return Slice(failed_together=done.taken)
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


def _run_rows(task: Runnable, rest: MessageKeeper, size: int, outcomes: Outcomes, done: Slice) -> None:
    """Run the rows of a slice inside its transaction."""
    ends_at = monotonic() + conf.SLICE.value / 1000
    step = company.few(task.name) if task.batch_size == 1 else size
    with collecting() as calls:
        while not (done.left or done.alone) and (ids := rest.take(min(step, size - len(done.taken)))):
            done.taken += ids
            started = ledger.complete(ids)
            done.started += started
            crash_point("consumer.before_effect")
            rest.begin()
            rows = [(task_named(task, row.name), row) for row in started]
            batched = [(named, row) for named, row in rows if named.batch_size > 1]
            step = size if batched else step  # Those that take a list wait for each other in any case.
            for _, group in groupby(sorted(batched, key=lambda pair: pair[1].name), key=lambda pair: pair[1].name):
                members = list(group)
                done.successes += run_batch(members[0][0], [row for _, row in members], outcomes)
            places = {id: place for place, id in enumerate(ids)}
            riders = sorted((pair for pair in rows if pair[0].batch_size == 1), key=lambda pair: places[pair[1].id])
            if not done.is_impatient and any(rider.repeatable for rider, _ in riders):
                ledger.wait_for_locks(done.patience)
                done.is_impatient = True
            began = monotonic()
            _run_riders(task, riders, outcomes, done, calls, rest=rest, ends_at=ends_at)
            company.note(task.name, len(riders) - len(done.left), monotonic() - began)
            if monotonic() >= ends_at:
                break
    if undone := done.undone():
        ledger.take_back(undone, lease=conf.PUBLISHED_LEASE.value)


def _run_riders(
    message: Runnable,
    riders: Sequence[tuple[Runnable, ledger.Started]],
    outcomes: Outcomes,
    done: Slice,
    calls: list[Any],
    *,
    rest: MessageKeeper,
    ends_at: float,
) -> None:
    """Run bodies one after the other until all are done, time is up, or one of them waits for a lock."""
    for number, (task, row) in enumerate(riders):
        if number and monotonic() >= ends_at:
            done.left += [row.id for _, row in riders[number:]]
            return
        crash_point("slice.between_bodies")
        made = len(calls)
        rest.begin()
        began = monotonic()
        try:
            done.successes.append(_ride(task, row, outcomes, done))
        except Exception as error:
            del calls[made:]
            if is_conflict(error):
                _note_conflict(message.name, len(done.started), [row.name])
                done.alone.append(row.id)
                done.left += [row.id for _, row in riders[number + 1 :]]
                return
            if task.repeatable:
                raise RepeatedError(row.id) from error
            if isinstance(error, SpoiledError):
                done.alone.append(row.id)
            else:
                done.failed.append((task, row, error))
        if monotonic() - began > LONGEST_WAIT:
            company.slow(message.name)


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
