"""
The class of every task: Celery's own, but durable.

``.delay()`` and ``.apply_async()`` write a ledger row in the current transaction; the relay publishes
it, and a message that reaches a worker runs through :mod:`worker.consumer`. A direct call runs the body
at once, as with any Celery task.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import celery
from celery.exceptions import Retry
from celery.result import AsyncResult
from django.utils import timezone

from worker import consumer
from worker.models import Priority
from worker.outbox import Call, enqueue
from worker.uuid7 import uuid7


class Task(celery.Task):
    """
    A durable task.

    What a decorator may say beyond Celery's own options:

    ``transactional``: True (the default) runs the body inside the transaction that marks the row
    succeeded: its effects in the database happen exactly once. False is for effects outside the
    database: the row is claimed under a lease, the body runs in no transaction and must be repeatable.

    ``batch_size``: above 1, every caller gives one argument and the body is given the list of them, at
    most so many. One transaction holds the whole batch; if it fails, each is run again alone.

    Retries are Celery's: ``max_retries``, ``retry_backoff`` (seconds, doubled each time),
    ``retry_backoff_max``, ``retry_jitter``. Any error is retried, but ``PermanentError`` and those in
    ``dont_autoretry_for``.
    """

    abstract = True
    Request = "worker.request:LedgerRequest"

    transactional: bool = True
    batch_size: int = 1
    max_retries: int | None = 7
    retry_backoff: float = 1.0  # seconds
    retry_backoff_max: float = 600.0  # seconds
    retry_jitter: bool = True
    dont_autoretry_for: tuple[type[BaseException], ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body; or, where a worker calls with a message, the rows that the message names."""
        if self.request.called_directly or self.request.is_eager:
            return super().__call__(*args, **kwargs)
        return consumer.consume(self, *args)

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Enqueue a call, as a part of the current transaction."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        task_id: str | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        unique_key: str | None = None,
        **unsupported: Any,
    ) -> AsyncResult:
        """
        Enqueue a call, as a part of the current transaction, and return its handle.

        ``countdown`` in seconds or ``eta`` may lie days ahead: the ledger keeps the time. ``priority`` is
        one of :class:`worker.models.Priority`. A second call with the same ``unique_key`` is not recorded
        while the ledger still has the first.

        Raises:
            TypeError: an argument is not JSON, does not fit the body, or is an option that a durable
                call does not have, such as ``link``: enqueue what follows from within the task.
            ValueError: there is no such queue or priority.
        """
        args, kwargs = tuple(args or ()), kwargs or {}
        self.check_arguments(args, kwargs)
        for option, value in unsupported.items():
            if value is not None and option not in IGNORED_OPTIONS:
                raise TypeError(
                    f"{self.name}: a durable call has no option {option!r}. "
                    f"To have something follow, enqueue it from within the task."
                )
        if eta is not None and timezone.is_naive(eta):
            eta = timezone.make_aware(eta)
        call = Call(
            id=UUID(task_id) if task_id else uuid7(),
            name=self.name,
            queue=self._check_queue(queue) if queue else self.default_queue,
            args=args,
            kwargs=kwargs,
            priority=Priority.NORMAL if priority is None else Priority(priority),
            countdown=countdown or 0,
            eta=eta,
            unique_key=unique_key,
        )
        enqueue(call)
        return self.AsyncResult(str(call.id))

    def retry(
        self, *, exc: BaseException | None = None, countdown: float | None = None, eta: datetime | None = None, **_: Any
    ) -> Retry:
        """
        End this attempt and have the task run again in ``countdown`` seconds (by default the backoff's).

        Raises:
            Retry: always; the consumer records it in the ledger. The attempt counts.
        """
        when: float | datetime | None = eta if eta is not None else countdown
        raise Retry(str(exc or "retry asked for"), exc, when)

    @property
    def max_attempts(self) -> int | None:
        """How often the body may be started: once more than it may be retried. None: for ever."""
        return None if self.max_retries is None else self.max_retries + 1

    @cached_property
    def default_queue(self) -> str:
        """The queue that the decorator, the routes or the default names."""
        queue = getattr(self, "queue", None)
        if queue is None:
            routed = self.app.amqp.router.route({}, self.name)["queue"]
            queue = getattr(routed, "name", routed)
        return self._check_queue(queue)

    def _check_queue(self, queue: str) -> str:
        if queue not in self.app.amqp.queues:
            known = ", ".join(sorted(self.app.amqp.queues))
            raise ValueError(f"{self.name}: there is no queue {queue!r}; there are {known} (CELERY_TASK_QUEUES).")
        return queue

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """
        Refuse a call that does not fit the body.

        Raises:
            TypeError: says what does not fit.
        """
        if self.batch_size > 1:
            if len(args) != 1 or kwargs:
                raise TypeError(f"{self.name} is batched: call it with one positional argument, its item of the batch.")
        elif self.typing:
            self.__header__(*args, **kwargs)


#: Options of Celery's own callers (beat, canvas) that mean nothing to a row in the ledger.
IGNORED_OPTIONS = frozenset(
    {"producer", "exchange", "routing_key", "headers", "ignore_result", "periodic_task_name", "shadow"}
)
