"""The interface that a worker needs of a task, so that no module here depends on the class whose calls become rows."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Report(Protocol):
    """The outcome of the rows of a message. Its ``str`` is a log line."""

    def events(self) -> list[dict[str, Any]]:
        """Return the outcome of each row, from which the worker's parent creates events."""


class Runnable(Protocol):
    """A task whose rows can be run. :class:`celery_ledger.Task` is one, and documents the options."""

    # As in Celery.
    app: Any
    backend: Any
    ignore_result: bool
    store_errors_even_if_ignored: bool
    name: str
    run: Callable[..., Any]
    request_stack: Any
    track_started: bool
    time_limit: float | None
    soft_time_limit: float | None
    throws: tuple[type[BaseException], ...]
    before_start: Callable[..., Any]
    on_success: Callable[..., Any]
    on_retry: Callable[..., Any]
    on_failure: Callable[..., Any]
    after_return: Callable[..., Any]

    # As declared by a durable task.
    transactional: bool
    batch_size: int
    repeatable: bool
    acks_late: bool
    has_own_results: bool
    retries: str | None
    dont_autoretry_for: tuple[type[BaseException], ...]

    @property
    def max_attempts(self) -> int | None:
        """How often the body may be started: one time more than it may be retried. None: any number of times."""

    @property
    def most_starts(self) -> int | None:
        """How often it may be started, crashes of its worker included. None: any number of times."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body."""

    def pause_after(self, attempts: int) -> float:
        """Return the seconds until the next attempt, after this number of failed ones."""

    def take(self, ids: Sequence[str]) -> Report | None:
        """Run the rows that a message names; return their outcomes, or None if there is nothing to report."""
