"""Errors that decide the fate of a task."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery.exceptions import Ignore, Retry

__all__ = ["PermanentError", "WorkerDiedError"]


class PermanentError(Exception):
    """
    Raised by a task that can never succeed: it becomes a dead letter at once, without further attempts.

    A person may replay it from the dead letters after fixing the cause.
    """


class WorkerDiedError(Exception):
    """The process that ran the task was killed: out of memory, a crash in C, a time limit, an operator."""


class RetryOtherwise(Retry):
    """A body requests a retry with different arguments or options, or with a different limit than its task's."""

    def __init__(
        self,
        exc: BaseException | None,
        when: Any,
        *,
        args: list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        attempt_limit: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(None, exc, when)
        self.new_args = args
        self.new_kwargs = kwargs
        self.attempt_limit = attempt_limit
        #: The same as in :class:`celery_ledger.rows.ledger.Asked`.
        self.new_options = options or {}


class ReplacedError(Ignore):
    """A task has handed its id and its place in a canvas to other calls, which are written when it has ended."""

    def __init__(self, words: str, calls: Sequence[Any]) -> None:
        super().__init__(words)
        self.calls = calls
