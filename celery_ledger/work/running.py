"""Common parts for running rows of both kinds: their task, how often it may start, and the outcome of a message."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from celery.exceptions import Ignore, NotRegistered

from celery_ledger.context import working_on
from celery_ledger.rows import ledger, results
from celery_ledger.rows.results import Outcome
from celery_ledger.rows.wording import words_of
from celery_ledger.work import failures
from celery_ledger.work.backends import is_kept
from celery_ledger.work.leaving import UnknownTaskError
from celery_ledger.work.runnable import Runnable
from celery_ledger.work.telling import Telling

#: A line for every completed task: meant for machines, so it is enabled only if machines read the logs.
done_logger = logging.getLogger("celery_ledger.done")


@dataclass
class Outcomes:
    """The outcome of a message's rows."""

    passed_over: int
    #: Of those, given back to the ledger because the message took long.
    handed_on: int = 0
    succeeded: int = 0
    failed: int = 0
    #: The subjects of the rows that ended or failed.
    subjects: set[str | None] = field(default_factory=set)
    tellings: dict[UUID, Telling] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.succeeded} succeeded, {self.failed} failed, {self.passed_over} passed over"

    def events(self) -> list[dict[str, Any]]:
        """Return the outcome of each row, from which the worker's parent creates events."""
        return [telling.event for telling in self.tellings.values() if telling.event is not None]

    def telling(self, task: Runnable, row: ledger.Started) -> Telling:
        """Return the report of a row's attempt: always the same object, however often the attempt is run."""
        if row.id not in self.tellings:
            self.tellings[row.id] = Telling(task, row)
        return self.tellings[row.id]

    def succeed(self, task: Runnable, row: ledger.Started, value: object) -> None:
        """Note that a row succeeded, and report it."""
        self.succeeded += 1
        self.passed_over -= 1
        self.subjects.add(row.subject)
        if task.batch_size > 1:  # For a single-item task, Celery's own log line suffices.
            say_done(row)
        self.telling(task, row).succeed(value)

    def fail(self, task: Runnable, row: ledger.Started, error: Exception, *, counted: bool) -> None:
        """Record that a row failed, and report it."""
        self.failed += 1
        self.passed_over -= 1
        self.subjects.add(row.subject)
        if state := failures.record(task, row, error, counted=counted, request=self.telling(task, row).request):
            self.telling(task, row).fail(error, state=state)

    @contextmanager
    def telling_of_all(self) -> Iterator[None]:
        """Ensure that every reported start is followed by a reported end, whatever happens in this block."""
        try:
            yield
        finally:
            for telling in self.tellings.values():
                telling.leave()


def task_named(task: Runnable, name: str) -> Runnable:
    """
    Return the task that a row names, if a message of ``task`` may carry it.

    Raises:
        UnknownTaskError: this process does not have the task, or the task is of the other kind.
    """
    try:
        named: Runnable = task.app.tasks[name]
    except NotRegistered:
        raise UnknownTaskError(f"there is no task {name} here") from None
    if named.transactional != task.transactional:
        raise UnknownTaskError(f"no message of {task.name} carries {name}")
    return named


def outcome_of(task: Runnable, row: ledger.Started, value: Any) -> Outcome:
    """Return the outcome of a successful body. If it ended by ``Ignore``, it has no result, and the row says so."""
    if isinstance(value, Ignore):
        ledger.note(row.id, words_of(value))
        return Outcome(row.id, results.SUCCESS, value, is_kept=False)
    return Outcome(row.id, results.SUCCESS, value, is_kept=is_kept(task, row.options), is_own=task.has_own_results)


def limit_of(task: Runnable) -> ledger.LimitOf:
    """Return a function that returns how often the task with a given name may be started."""

    def find(name: str) -> int | None:
        limit: int | None = task_named(task, name).most_starts
        return limit

    return find


def say_done(row: ledger.Started) -> None:
    """Log the row at DEBUG, on a logger of its own, for projects whose logs are read by machines."""
    if done_logger.isEnabledFor(logging.DEBUG):
        with working_on(request_id=row.request_id, subject=row.subject):
            data = {"task": row.name, "id": str(row.id), "attempt": row.attempts}
            done_logger.debug("task succeeded", extra={"data": data})
