"""
The base class of all durable tasks: Celery's own, except that calls are rows.

``.delay()`` and ``.apply_async()`` write a ledger row in the current transaction; the relay publishes it, and a message
that reaches a worker runs through :mod:`celery_ledger.work.consumer`. A direct call runs the body at once, as with any
Celery task. Models are imported when a task is first called, so that a project may subclass this before Django's apps
are ready.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import celery
from asgiref.sync import sync_to_async
from celery import states
from celery.app import task as celery_task
from celery.app.routes import MapRoute
from celery.backends.base import DisabledBackend
from celery.exceptions import Ignore, Retry
from celery.result import AsyncResult, EagerResult
from kombu.utils.functional import maybe_evaluate

from celery_ledger import backoff, loops
from celery_ledger.databases import atomic, on_commit
from celery_ledger.errors import ReplacedError, RetryOtherwise
from celery_ledger.ids import row_id
from celery_ledger.install import install
from celery_ledger.retries import policy

if TYPE_CHECKING:
    from celery_ledger.work.running import Outcomes

__all__ = ["Task"]

#: A task without a policy is started at least this often before it is blamed for its workers' crashes.
MOST_CRASHES = 4


class Task(celery.Task):
    """
    A durable task: a call is a row in the caller's transaction, and runs at least once after it commits.

    Options of the decorator, in addition to Celery's own:

    ``durable``: False makes it a plain Celery task.

    ``transactional``: True runs the body inside the transaction that marks the row succeeded: its effects in the
    database happen exactly once. False (the default) is for effects outside the database: the row is claimed under a
    lease, the body runs outside any transaction and must be repeatable.

    ``batch_size``: above 1, every caller passes one argument and the body receives a list of at most this many. One
    transaction holds the whole batch, so the task must be transactional; if the batch fails, each call is run again
    alone.

    ``rides``: whether its rows share messages with others, up to a few milliseconds of work each, and, if the task is
    transactional, one transaction: True, False, or None (the default) for the value of ``LEDGER_RIDES``. The number of
    rows is adapted to measurements; a long task rides alone. Locks are held, and ``on_commit`` functions wait, until
    the shared transaction ends, after about fifty milliseconds at most.

    ``repeatable``: True lets a transactional task ride without a savepoint, which is cheaper, but if one body fails,
    the others in its transaction run twice. Only for bodies whose effects are all in the database.

    ``acks_late``: with False, a task whose worker died becomes a dead letter instead of running again.

    ``unique_key``, ``unique_for``, ``debounce``, ``debounce_at_most``: defaults for the same arguments of
    :meth:`apply_async`. The key may be a function of the call's arguments, which returns None for a call that has
    no key.

    ``concurrency_per_key``: how many calls with the same ``limit_key`` may run at once, in the whole cluster. The
    others wait in the ledger without occupying a worker. ``limit_key`` is the default for :meth:`apply_async`: a key,
    or a function of the call's arguments. Such a task cannot have a rate limit.

    ``label``: what the task does, in a few words for customers, such as "Send you the confirmation".

    ``retries``: the name of a policy in :mod:`celery_ledger.retries` that retries any error: ``"patient"`` for tasks
    that call other servers, ``"brisk"`` for everything else. Celery's own options override it: ``max_retries``,
    ``retry_backoff`` (seconds, doubled each time), ``retry_backoff_max``, ``retry_jitter``, or ``default_retry_delay``
    for equal pauses; ``retry_kwargs`` may hold the same. :class:`celery_ledger.PermanentError` and the errors in
    ``dont_autoretry_for`` are not retried. Without a policy (the default) retries work as in Celery: only through
    ``autoretry_for`` and ``self.retry()``.
    """

    abstract = True
    Request = "celery_ledger.work.request:LedgerRequest"
    Strategy = "celery_ledger.work.reception:strategy"

    #: Distinguishes it from a plain Celery task, which has no row.
    durable: bool = True
    transactional: bool = False
    batch_size: int = 1
    rides: bool | None = None
    repeatable: bool = False
    unique_key: str | Callable[..., str | None] | None = None
    unique_for: str | float | timedelta | None = None
    debounce: float | timedelta | None = None
    debounce_at_most: float | timedelta | None = None
    limit_key: str | Callable[..., str | None] | None = None
    concurrency_per_key: int | None = None
    label: str = ""
    retries: str | None = None
    acks_late: bool = True
    #: Whether its results are kept in the ledger, wherever the project keeps the others.
    has_own_results: bool = False
    #: Whether the app of a task with this class needs what durable tasks need. The package's own tasks are in every
    #: app of a project that has the package installed, and alone change nothing there.
    has_needs: bool = True
    retry_backoff: float | bool = False  # seconds
    retry_backoff_max: float = 600  # seconds
    retry_jitter: bool = True
    dont_autoretry_for: tuple[type[BaseException], ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """
        Validate the options of a decorator: transactions and retries.

        Raises:
            ValueError: there is no such policy, a batched or repeatable task is not transactional, ``rides`` has an
                unknown value, or ``concurrency_per_key`` is not a whole number above 0, is missing for a ``limit_key``,
                or is given together with a ``rate_limit``.
            TypeError: ``retry_kwargs`` of a task with a policy holds anything but ``max_retries`` and ``countdown``.
        """
        super().__init_subclass__(**options)
        if "_app" in cls.__dict__:
            install(cls._app)
        cls._settle()

    @classmethod
    def annotate(cls) -> None:
        """Apply ``task_annotations`` as if the decorator had set them. Raises the decorator's errors."""
        super().annotate()
        cls._settle()

    @classmethod
    def _settle(cls) -> None:
        if cls.__dict__.get("durable") is False:
            for name in ("Request", "Strategy", "acks_late"):
                if name not in cls.__dict__:
                    setattr(cls, name, getattr(celery.Task, name))
        for name in ("unique_key", "limit_key"):
            if callable(key := cls.__dict__.get(name)) and not isinstance(key, staticmethod):
                setattr(cls, name, staticmethod(key))  # It receives only the call's arguments.
        cls._check_concurrency()
        if cls.batch_size > 1 and not cls.transactional:
            raise ValueError(f"{cls.__name__}: a batch is one transaction, so batch_size requires transactional=True.")
        if cls.rides not in (True, False, None):
            raise ValueError(f"{cls.__name__}: rides is True, False or None, and not {cls.rides!r}.")
        if cls.repeatable and not cls.transactional:
            raise ValueError(f"{cls.__name__}: repeatable is said of what runs in a transaction: transactional=True.")
        if cls.retries is not None:
            cls._read_policy()

    @classmethod
    def _check_concurrency(cls) -> None:
        most = cls.concurrency_per_key
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ValueError(f"{cls.__name__}: concurrency_per_key is a whole number above 0, and not {most!r}.")
        if most is None and cls.limit_key is not None:
            raise ValueError(f"{cls.__name__}: a limit_key requires concurrency_per_key.")
        if most is not None and "rate_limit" in cls.__dict__ and cls.rate_limit:
            raise ValueError(f"{cls.__name__}: a task has a rate_limit or concurrency_per_key, and not both.")

    @classmethod
    def _read_policy(cls) -> None:
        if "retries" in cls.__dict__:
            chosen = policy(cls.retries or "")
            for name, value in (
                ("max_retries", chosen.retries),
                ("retry_backoff", chosen.first),
                ("retry_backoff_max", chosen.longest),
            ):
                if name not in cls.__dict__:
                    setattr(cls, name, value)
        said = cls.__dict__.get("retry_kwargs") or {}
        if strange := said.keys() - {"max_retries", "countdown"}:
            raise TypeError(f"{cls.__name__}: retry_kwargs may say max_retries and countdown, not {sorted(strange)}.")
        if "max_retries" in said:
            cls.max_retries = said["max_retries"]
        delay = said.get("countdown", cls.__dict__.get("default_retry_delay"))
        if delay is not None and "retry_backoff" not in cls.__dict__:
            cls.retry_backoff = cls.retry_backoff_max = delay
            cls.retry_jitter = False

    @classmethod
    def on_bound(cls, app: celery.Celery) -> None:
        """Install what durable tasks need, in an app whose default task class may be a different one."""
        if cls.durable and cls.has_needs:
            install(app)

    @property
    def __trace__(self) -> Callable[..., Any] | None:
        """Handle a message of this task in a worker; replaces Celery's tracer, which would call the body."""
        if not self.durable:
            return self.__dict__.get("tracer")
        from celery_ledger.work import carrying

        return partial(carrying.run, self)

    @__trace__.setter
    def __trace__(self, tracer: Any) -> None:
        """Store Celery's tracer, which a worker builds for every task, for use by plain tasks."""
        self.__dict__["tracer"] = tracer

    def take(self, ids: Sequence[str]) -> "Outcomes | None":
        """Run the rows that a message names, in a worker process; return their outcomes."""
        from celery_ledger.work import consumer

        return consumer.consume(self, ids)

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Enqueue a call, as a part of the current transaction."""
        return self.apply_async(args, kwargs)

    async def adelay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Enqueue a call from ``async`` code; see :meth:`aapply_async`."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(self, *args: Any, **kwargs: Any) -> AsyncResult | EagerResult:
        """
        Enqueue a call from ``async`` code, in which Django has no transactions.

        The loop is not blocked, and the row is committed when this returns. To combine it with other writes in one
        transaction, put both into a function for ``sync_to_async``. Where synchronous code runs the loop with
        ``async_to_sync`` inside a transaction, the row is part of that transaction.
        """
        return await sync_to_async(self.apply_async)(*args, **kwargs)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult | None:
        """Enqueue a call like :meth:`delay`, whose row exists if and only if the transaction commits."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult | None:
        """Enqueue a call like :meth:`apply_async`, whose row exists if and only if the transaction commits."""
        if self.durable:
            return self.apply_async(*args, **kwargs)
        on_commit(partial(self.apply_async, *args, **kwargs))
        return None

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        task_id: str | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        expires: float | datetime | str | None = None,
        unique_key: str | None = None,
        unique_for: str | float | timedelta | None = None,
        debounce: float | timedelta | None = None,
        debounce_at_most: float | timedelta | None = None,
        limit_key: str | None = None,
        using: str | None = None,
        **others: Any,
    ) -> AsyncResult | EagerResult:
        """
        Enqueue a call, as a part of the current transaction, and return its handle.

        ``countdown`` (in seconds) or ``eta`` may be days ahead: the ledger keeps the time. ``priority`` goes from 0,
        the first, to 9, the last, on every broker. ``expires`` is a time or a number of seconds from now: a call that
        no worker has started by then is cancelled.

        While a call holds its ``unique_key``, a second call with the same key is not recorded, and its handle is that
        of the first: at once, or, where calls are collected (as while a signal is sent), when they are written. A call
        holds its key for as long as its row is kept; with ``unique_for="pending"``, until it is published; with
        ``"done"``, until it has ended; with a number of seconds or a timedelta, for that time. With ``debounce``, in
        seconds, it holds the key while it is pending, becomes due that long after the last call, and takes that call's
        arguments; with ``debounce_at_most`` it is due that long after the first call at the latest, however many
        follow.

        Of the calls with the same ``limit_key``, at most the task's ``concurrency_per_key`` run at once; tasks that use
        the same key share this limit.

        With several ``LEDGER_DATABASES``, the call goes into the database ``using``, or else into the one whose
        transaction is open; see :func:`celery_ledger.databases.for_calls`.

        ``headers``, and any option that Celery does not know, appear in ``self.request.headers`` and
        ``self.request.properties``. ``time_limit`` and ``soft_time_limit``, in seconds, apply to this call.

        Raises:
            TypeError: an argument is not JSON or does not fit the body; an option does not exist for durable calls,
                such as ``routing_key``; or a link or errback is not a signature.
            ValueError: the queue or priority does not exist, the ``task_id`` is already in the ledger, a value is out
                of range, ``unique_for`` or ``debounce`` is given without a ``unique_key``, or they contradict each
                other, a ``limit_key`` is given and the task has no ``concurrency_per_key``, or the database ``using``
                does not have the ledger.
        """
        said = {
            "countdown": countdown,
            "eta": eta,
            "queue": queue,
            "priority": priority,
            "expires": expires,
            "unique_key": unique_key,
            "unique_for": unique_for,
            "debounce": debounce,
            "debounce_at_most": debounce_at_most,
            "limit_key": limit_key,
            "using": using,
            **others,
        }
        if self.durable and not _is_wrapped(celery.Task.apply_async):
            return self.enqueue(args, kwargs, task_id, said)
        # Tracing tools wrap this method; for a durable task it then reaches our ``app.send_task``.
        given = {option: value for option, value in said.items() if option in others or value is not None}
        return super().apply_async(args, kwargs, task_id, **given)

    def enqueue(
        self,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        task_id: str | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> AsyncResult | EagerResult:
        """
        Write the row of a call: the last step of :meth:`apply_async`, with the same options and errors.

        Inside a running event loop, which waits meanwhile: see :mod:`celery_ledger.loops`.
        """
        from celery_ledger.rows import making

        if loops.is_running() and not self.app.conf.task_always_eager:
            return loops.synchronously(partial(making.make, self, args, kwargs, task_id, options))
        return making.make(self, args, kwargs, task_id, options)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | str | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **others: Any,
    ) -> Retry:
        """
        End this attempt and run the task again in ``countdown`` seconds (default: the backoff) or at ``eta``.

        ``args``, ``kwargs``, ``queue``, ``priority``, ``expires`` and the other options of a call replace those of the
        current attempt; ``max_retries`` replaces the decorator's value for this call.

        With ``throw=False``, the body runs to its end; its return value is dropped, and the attempt ends as a retry.

        Raises:
            Retry: the consumer records it in the ledger. The attempt counts.
            MaxRetriesExceededError, or ``exc``: a task without a policy has used up its retries.
            TypeError, ValueError: as for :meth:`apply_async`.
        """
        if not self.durable or self.request.called_directly or self.request.is_eager:
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **others)
        from celery_ledger.rows import calls, serialized

        changed = self._otherwise(**others)
        args = None if args is None else list(args)
        if args is not None or kwargs is not None:
            given = self.request.args if args is None else args, self.request.kwargs if kwargs is None else kwargs
            self.check_arguments(tuple(given[0] or ()), given[1] or {})
            options = {serialized.KEY: None} if getattr(self.request, serialized.KEY, None) else {}
            serializer = others.get("serializer")
            texts = serialized.as_texts(self, tuple(given[0] or ()), given[1] or {}, options, serializer=serializer)
            if options:
                args, kwargs = given
                changed["options"] = {**changed.get("options", {}), **options}
            args = None if args is None else json.loads(texts[0])
            kwargs = None if kwargs is None else json.loads(texts[1])
        limit = None if max_retries is None else calls.checked_limit(self.name, max_retries)
        pause = self._pause() if countdown is None else calls.checked_countdown(self.name, countdown)
        when = calls.checked_eta(self.name, eta) or pause
        most = getattr(self.request, "attempt_limit", None) or limit or self.max_attempts
        if self.retries is None and most is not None and self.request.retries + 1 >= most:
            raise exc or self.MaxRetriesExceededError(
                f"{self.name} {self.request.id} was retried as often as it may be."
            )
        asked = Retry(None, exc, when)
        if args is not None or kwargs is not None or limit is not None or changed:
            asked = RetryOtherwise(exc, when, args=args, kwargs=kwargs, attempt_limit=limit, options=changed)
        if throw:
            raise asked
        self.request.retry_asked = asked
        return asked

    def _otherwise(
        self, *, queue: Any = None, priority: Any = None, expires: Any = None, **others: Any
    ) -> dict[str, Any]:
        """Return the options of a retry other than a delay, arguments and a limit."""
        from celery_ledger.rows import calls
        from celery_ledger.rows import options as beside

        until = calls.checked_expires(self.name, expires)
        asked = {
            "queue": self._check_queue(getattr(queue, "name", queue)) if queue else None,
            "priority": None if priority is None else calls.checked_priority(self.name, priority),
            "expires": until,
            "options": beside.otherwise(self.name, others, until) or None,
        }
        return {option: value for option, value in asked.items() if value is not None}

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **others: Any
    ) -> None:
        """
        Make ``AsyncResult`` show ``state`` and ``meta`` immediately, even during this body's transaction.

        On SQLite, a state set within a transaction is dropped: it could not be read before the end.

        Raises:
            ValueError: there is no ``task_id``, and no task is running that calls this.
        """
        if not self.durable or self.request.is_eager:
            super().update_state(task_id, state, meta, **others)
            return
        id = task_id or self.request.id
        if not id:
            raise ValueError(f"{self.name} does not run: say whose state it is, by task_id.")
        from celery_ledger.work import backends

        backends.say(self.backend, self.request, str(id), state or states.PENDING, meta, **others)

    def replace(self, sig: Any) -> Any:
        """
        End this attempt and run ``sig`` in this task's place: under its id, before its successors.

        It is written in the transaction that records this task's end, and this task's row is kept under another id.

        Raises:
            Ignore: as Celery does.
        """
        if not self.durable or self.request.called_directly or self.request.is_eager:
            return super().replace(sig)
        from celery_ledger.rows import outbox

        with outbox.holding() as held, self._within_its_canvas():
            try:
                return super().replace(sig)
            except Ignore as ignored:
                words = str(ignored)
        raise ReplacedError(words, held)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """
        Make the body of this task's chord wait for ``sig`` too, and call it unless ``lazy``, in one transaction.

        Raises:
            ValueError: this task is not a member of a chord, or the ledger does not have the chord.
        """
        if not self.durable or self.request.called_directly or self.request.is_eager:
            return super().add_to_chord(sig, lazy)
        with atomic(), self._within_its_canvas():
            return super().add_to_chord(sig, lazy)

    def widening_its_chord(self) -> AbstractContextManager[Any]:
        """
        Return a context whose calls join this task's chord; a plain one if it is in none.

        Only for tasks with ``transactional=True``: the chord grows in the transaction that completes the task.
        """
        from celery_ledger.rows import headers, outbox

        group = self.request.group if self.request.chord else None
        if group is None:
            return nullcontext()
        canvas = getattr(self.request, "canvas", None) or self.request.id
        return outbox.joining(headers.Header(row_id(group), row_id(canvas)))

    def _within_its_canvas(self) -> AbstractContextManager[Any]:
        from celery_ledger.rows import canvases

        return canvases.within(row_id(getattr(self.request, "canvas", None) or self.request.id))

    def _pause(self) -> float:
        """Return the default seconds until the next attempt: the policy's, or Celery's own."""
        if self.retries is not None:
            return self.pause_after(self.request.retries + 1)
        return float(self.default_retry_delay or 0)

    def pause_after(self, attempts: int) -> float:
        """Return the seconds until the next attempt after this number of failures."""
        base = float(self.retry_backoff) if self.retry_backoff else 1.0
        pause = backoff.exponential(attempts, base=base, ceiling=self.retry_backoff_max)
        return backoff.jittered(pause) if self.retry_jitter else pause

    @property
    def backend(self) -> Any:
        """The result backend: Celery's choice; none for a plain task if only the ledger keeps results."""
        chosen = super().backend
        if not self.durable and getattr(chosen, "is_the_ledgers", False):
            return _no_backend(self.app)
        return chosen

    @backend.setter
    def backend(self, chosen: Any) -> None:
        self._backend = chosen

    @property
    def max_attempts(self) -> int | None:
        """How often the body may be started: its retries plus one. None: without limit."""
        return None if self.max_retries is None else self.max_retries + 1

    @property
    def most_starts(self) -> int | None:
        """How often it may be started, including starts that ended in a crash. None: without limit."""
        if self.max_attempts is None or self.retries is not None:
            return self.max_attempts
        return max(self.max_attempts, MOST_CRASHES)

    @cached_property
    def default_queue(self) -> str:
        """The queue from the decorator, the routes or the default."""
        queue = getattr(self, "queue", None)
        if queue is None:
            routed = self._route.get("queue", self.app.conf.task_default_queue)
            queue = getattr(routed, "name", routed)
        return self._check_queue(queue)

    def routed(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], queue: Any, priority: Any, caller: Any
    ) -> tuple[str, Any]:
        """
        Return queue and priority of a call by ``caller`` (a task or None) that sets these values, or None.

        Raises:
            ValueError: there is no such queue.
        """
        if self._asks_routes:
            route: dict[str, Any] = self.app.amqp.router.route({}, self.name, args, kwargs, self)
            if queue is None and getattr(self, "queue", None) is None:
                queue = getattr(route.get("queue"), "name", route.get("queue"))
            if priority is None and self.priority is None:
                priority = route.get("priority")
        if priority is None:
            priority = self.default_priority
            if priority is None and caller is not None and self.app.conf.task_inherit_parent_priority:
                priority = caller.request.delivery_info.get("priority")
        return self._check_queue(queue) if queue else self.default_queue, priority

    @cached_property
    def _asks_routes(self) -> bool:
        """Whether the routes contain a function or a class of the project's own."""
        return any(not isinstance(maybe_evaluate(route), MapRoute) for route in self.app.amqp.router.routes)

    @cached_property
    def default_priority(self) -> Any:
        """The priority from the decorator or the routes."""
        return self._route.get("priority") if self.priority is None else self.priority

    @cached_property
    def _route(self) -> dict[str, Any]:
        """The entry of ``task_routes`` for this task; from Celery 5.7 on, queue and priority belong there."""
        if self._asks_routes:
            return {}  # These describe calls.
        route: dict[str, Any] = self.app.amqp.router.route({}, self.name)
        return route

    def _check_queue(self, queue: str) -> str:
        if not self.app.conf.task_create_missing_queues and queue not in self.app.amqp.queues:
            known = ", ".join(sorted(self.app.amqp.queues))
            raise ValueError(f"{self.name}: there is no queue {queue!r}; there are {known} (CELERY_TASK_QUEUES).")
        return queue

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """
        Refuse a call that does not match the body's signature.

        Raises:
            TypeError: says what does not fit.
        """
        if self.batch_size > 1:
            if len(args) != 1 or kwargs:
                raise TypeError(f"{self.name} is batched: call it with one positional argument, its item of the batch.")
        elif self.typing and (header := getattr(self, "__header__", None)) is not None:  # Of a function.
            header(*args, **kwargs)


def _no_backend(app: celery.Celery) -> DisabledBackend:
    """Return the app's own, made once: a plain task asks for it several times a call, and each takes 300 µs to make."""
    made: DisabledBackend | None = app.__dict__.get("no_backend")
    if made is None:
        made = app.no_backend = DisabledBackend(app)
    return made


def _is_wrapped(method: Any) -> bool:
    """Whether a method of Celery's is wrapped, as by tracing tools."""
    code = getattr(method, "__code__", None)
    return code is None or code.co_filename != celery_task.__file__
