"""
Durable signals: receivers cannot roll back the sender's work, and their reactions cannot be lost.

``DurableSignal`` is sent with ``send_robust`` inside the sender's transaction. What its receivers
enqueue meanwhile is written by one statement after the last of them. If a receiver fails, only that receiver is rolled
back; the failure is logged, and a durable task sends it the signal again.
"""

import inspect
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, NoReturn, cast

from celery import Celery, shared_task
from django.apps import apps
from django.db import DatabaseError, models, transaction
from django.dispatch import Signal

from celery_ledger import databases
from celery_ledger.context import current_subject, working_on
from celery_ledger.databases import connection
from celery_ledger.errors import PermanentError
from celery_ledger.guard import Guard
from celery_ledger.retries import BRISK
from celery_ledger.rows.calls import MOST_CHARACTERS, arguments_as_json, blaming
from celery_ledger.rows.outbox import collecting
from celery_ledger.task import Task

__all__ = [
    "DurableSignal",
    "durable_signals",
    "process_told",
    "queue_changed",
    "rate_changed",
    "schedule_changed",
    "schedule_late",
    "tasks_cancelled",
    "tasks_discarded",
    "tasks_hastened",
    "tasks_replayed",
]

logger = logging.getLogger(__name__)

_signals: dict[str, "DurableSignal"] = {}
#: The packed arguments of the signal that is being sent.
_being_sent: ContextVar[str | None] = ContextVar("being_sent", default=None)


class DurableSignal(Signal):
    """
    A signal that is part of its sender's transaction.

    ``name`` is permanent: ledger rows carry it. Arguments other than ``sender`` are model instances,
    decimals or JSON values, so that the signal can be sent again from a ledger row. The first model instance
    is the subject of every task that is enqueued while the signal is sent.

    Django's ``use_caching`` is off: finding five receivers takes 1.5 microseconds without it and 0.6 with it, in a
    request that takes milliseconds (Python 3.11, two shared cores).
    """

    def __init__(self, name: str) -> None:
        if name in _signals:
            raise ValueError(f"There is a signal named {name!r} already.")
        super().__init__()
        self.name = name
        _signals[name] = self

    def connect(
        self,
        receiver: Callable[..., Any],
        sender: object = None,
        weak: bool = False,
        dispatch_uid: str | None = None,
    ) -> None:
        """
        Connect a module-level function under a permanent ``dispatch_uid``.

        Raises:
            TypeError: there is no ``dispatch_uid``, so a failed receiver could not be found again; or the receiver is
                asynchronous and would never run.
            ValueError: another receiver has the ``dispatch_uid``; Django would silently keep that one.
        """
        if not isinstance(dispatch_uid, str) or not dispatch_uid:
            raise TypeError(f"Connect {receiver!r} to {self.name} with a dispatch_uid: ledger rows carry it.")
        if inspect.iscoroutinefunction(receiver):
            raise TypeError(f"{receiver!r} is asynchronous: {self.name}'s transaction would not wait for it.")
        known = self.receiver_for(dispatch_uid)
        if known is not None and known.function is not receiver:
            raise ValueError(f"{dispatch_uid!r} is connected to {self.name} already, as {known.__qualname__}.")
        super().connect(GuardedReceiver(receiver, dispatch_uid), sender, weak=False, dispatch_uid=dispatch_uid)

    def send_robust(self, sender: object, **named: Any) -> list[tuple[Any, Any]]:
        """
        Send to every receiver; the tasks they enqueue become part of the current transaction.

        Returns Django's list of (receiver, response or error). A failed receiver has left nothing
        behind but a durable task that will send it this signal again.

        Raises:
            TransactionManagementError: there is no transaction that the reactions could be part of.
            TypeError: an argument cannot be stored in a row, so the signal could not be sent again.
            DatabaseError: the whole transaction is lost, including the sender's work.
        """
        with databases.using(databases.for_calls()):
            return self._send_robust(sender, **named)

    def _send_robust(self, sender: object, **named: Any) -> list[tuple[Any, Any]]:
        if not connection.in_atomic_block:
            raise transaction.TransactionManagementError(f"Send {self.name} inside transaction.atomic().")
        packed = _pack(self.name, named)  # Before any receiver can change what it is given.
        with working_on(subject=_subject_of(named)), collecting():
            with _sending(packed):
                responses = super().send_robust(sender, **named)
            for receiver, response in responses:
                if isinstance(response, DatabaseError) and connection.needs_rollback:
                    raise response  # The connection is lost or the disk is full: nothing can be saved.
                if isinstance(response, Exception) and isinstance(receiver, GuardedReceiver):
                    self.handle_failure(receiver, response, packed)
        return responses

    def send(self, sender: object, **named: Any) -> NoReturn:
        """
        Refuse: with ``send``, one receiver's error would stop the others and the sender.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"Use send_robust() for {self.name}: in send(), a failing receiver undoes the sender's work.")

    async def asend(self, sender: object, **named: Any) -> NoReturn:
        """Refuse like :meth:`send`. Receivers belong to a transaction, and so to the thread that holds it."""
        self.send(sender, **named)

    async def asend_robust(self, sender: object, **named: Any) -> NoReturn:
        """Refuse like :meth:`asend`."""
        self.send(sender, **named)

    def handle_failure(self, receiver: "GuardedReceiver", error: Exception, packed: str) -> None:
        """Arrange for this signal to be resent to ``receiver``, which raised ``error``."""
        redeliver.delay(signal=self.name, dispatch_uid=receiver.dispatch_uid, arguments=_as_kept(self.name, packed))

    def receiver_for(self, dispatch_uid: str) -> "GuardedReceiver | None":
        """Return the receiver that is connected under ``dispatch_uid``, or None."""
        for (uid, _), receiver, *_ in self.receivers:
            if uid == dispatch_uid:
                return cast("GuardedReceiver", receiver)
        return None


def durable_signals() -> list[DurableSignal]:
    """Return all durable signals by name."""
    return [_signals[name] for name in sorted(_signals)]


class GuardedReceiver:
    """
    A receiver without partial effects: if it raises, everything it wrote or enqueued is rolled back.

    On PostgreSQL one failed query spoils the whole transaction, and ``send_robust`` would swallow
    the error: the COMMIT would become a silent ROLLBACK of what was already answered with 201.
    """

    def __init__(self, function: Callable[..., Any], dispatch_uid: str) -> None:
        self.function = function
        self.dispatch_uid = dispatch_uid
        self.__qualname__ = getattr(function, "__qualname__", repr(function))
        self.__module__ = function.__module__

    def __call__(self, **named: Any) -> Any:
        with collecting() as calls, self._blamed(named["signal"]):
            enqueued_before = len(calls)
            try:
                with Guard():
                    return self.function(**named)
            except Exception:
                del calls[enqueued_before:]
                raise

    def _blamed(self, signal: DurableSignal) -> AbstractContextManager[None]:
        """Resend the signal to this receiver if the database refuses its calls, which are written last."""
        packed, subject = _being_sent.get(), current_subject()
        if packed is None:
            return nullcontext()  # A task is already sending it again; that task fails.

        def blame(error: Exception) -> None:
            with working_on(subject=subject):
                signal.handle_failure(self, error, packed)

        return blaming(blame)


class RedeliveringTask(Task):
    """The class of a task that is in every app, and that an app needs only if a durable signal has a receiver."""

    abstract = True

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Install what durable tasks need, if a signal can ever be sent again."""
        if any(signal.receivers for signal in _signals.values()):
            super().on_bound(app)


@shared_task(name="celery_ledger.tasks.redeliver", bind=True, base=RedeliveringTask, transactional=True, retries=BRISK)
def redeliver(self: Any, *, signal: str, dispatch_uid: str, arguments: dict[str, Any] | str) -> None:
    """
    Resend a signal to the one receiver that failed.

    Effect: the receiver's own, in this task's transaction. A second delivery of the message finds the row done. A
    chord that waits for this task also waits for what the receiver calls. Permanent errors: the receiver is no
    longer connected, or the object is gone.
    """
    source = _signals.get(signal)
    receiver = source and source.receiver_for(dispatch_uid)
    if not receiver:
        raise PermanentError(f"No receiver {dispatch_uid!r} is connected to a signal named {signal!r}.")
    with self.widening_its_chord():
        receiver(signal=source, sender=None, **_unpack(arguments))


def _subject_of(named: dict[str, Any]) -> str | None:
    for value in named.values():
        if isinstance(value, models.Model):
            return f"{value._meta.label_lower}:{value.pk}"
    return None


@contextmanager
def _sending(packed: str) -> Iterator[None]:
    token = _being_sent.set(packed)
    try:
        yield
    finally:
        _being_sent.reset(token)


def _pack(signal: str, named: dict[str, Any]) -> str:
    """
    Return a signal's arguments as JSON, which later changes cannot affect.

    Raises:
        TypeError: they are not JSON, so the signal could not be sent again.
        ValueError: the arguments are too large for a row.
    """
    packed = {key: _pack_value(value) for key, value in named.items()}
    try:
        text = arguments_as_json(signal, [[packed]])[2:-2]  # As deeply nested as they are in the row.
    except TypeError:
        try:
            text = json.dumps(packed, allow_nan=False)  # They may only hold characters that no database keeps.
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"The arguments of {signal} must be saved objects, decimals or JSON, to be sent again: {error}."
            ) from None
    if len(text) > MOST_CHARACTERS // 4:  # As text within text they may become four times as long.
        raise ValueError(f"The arguments of {signal} are {len(text)} characters of JSON: send ids.")
    return text


def _as_kept(signal: str, packed: str) -> dict[str, Any] | str:
    """Return packed arguments for a row: readable, or as text if they hold characters that databases cannot store."""
    arguments: dict[str, Any] = json.loads(packed)
    try:
        arguments_as_json(signal, arguments)
    except TypeError:
        return packed
    return arguments


def _pack_value(value: Any) -> Any:
    if isinstance(value, models.Model):
        if value.pk is None:
            raise TypeError(f"{value!r} is not saved, so the signal could not be sent again.")
        pk = value.pk if isinstance(value.pk, (int, str)) else value._meta.pk.value_to_string(value)
        return {"model": value._meta.label, "pk": pk}
    return {"decimal": str(value)} if isinstance(value, Decimal) else value


def _unpack(arguments: dict[str, Any] | str) -> dict[str, Any]:
    packed: dict[str, Any] = json.loads(arguments) if isinstance(arguments, str) else arguments
    named = {}
    for key, value in packed.items():
        if isinstance(value, dict) and value.keys() == {"model", "pk"}:
            model = apps.get_model(value["model"])
            try:
                value = model._base_manager.get(pk=value["pk"])
            except model.DoesNotExist:
                raise PermanentError(f"{value['model']} {value['pk']} no longer exists.") from None
        elif isinstance(value, dict) and value.keys() == {"decimal"}:
            value = Decimal(value["decimal"])
        named[key] = value
    return named


schedule_late = DurableSignal("worker.schedule_late")
"""
Sent for every schedule that is later than its policy allows: by the relays, every half minute, while no beat
runs it; and by beat when it returns, inside the transaction that enqueues the missed runs.

Arguments: ``name``, the schedule's; ``due_at``, its oldest due time that did not run, in ISO 8601.

Sent by each relay and beat that finds it, again and again with the same arguments, so receivers must be repeatable.
Not sent for a schedule that is disabled, has not started, or has no limit in its policy.
"""

tasks_replayed = DurableSignal("worker.tasks_replayed")
"""
Sent when a person replays dead tasks, once per thousand, inside the transaction that makes them pending.

Arguments: ``ids``, as strings; ``who``, the user's id, or None for a command on a terminal; ``edited``, only
where the arguments were changed: ``{before, after}``, each ``{args, kwargs}``.

Not sent for automatic retries, or if none of the tasks was still dead.
"""

tasks_discarded = DurableSignal("worker.tasks_discarded")
"""
Sent when a person discards dead tasks, once per thousand, inside the transaction that does so.

Arguments: ``ids``, as strings; ``reason``; ``who``, as for ``tasks_replayed``.

Not sent if none of the tasks was still dead.
"""

tasks_cancelled = DurableSignal("worker.tasks_cancelled")
"""
Sent when waiting or running tasks are cancelled, once per thousand, inside the transaction that does so.

Arguments: ``tasks``, the id and previous status of each; ``reason``; ``who``, as for ``tasks_replayed``.

Not sent for a task that a worker has started and may finish, or for one that expires.
"""

tasks_hastened = DurableSignal("celery_ledger.tasks_hastened")
"""
Sent when a person runs waiting tasks now, once per thousand, inside the transaction that makes them due.

Arguments: ``tasks``, the id and original due time of each; ``reason``, which may be empty; ``who``, as for
``tasks_replayed``.

Not sent for tasks that are already due.
"""

process_told = DurableSignal("celery_ledger.process_told")
"""
Sent when a person drains or resumes a worker, or stops a worker, relay or beat, inside the transaction that does so.

Arguments: ``process``, its name; ``before`` and ``after``, the old and the new order: ``drain``, ``stop`` or
nothing; ``who``, as for ``tasks_replayed``.

Not sent if nothing changes.
"""

schedule_changed = DurableSignal("celery_ledger.schedule_changed")
"""
Sent when a person pauses, resumes or runs a schedule at the desk, inside the transaction that does so.

Arguments: ``name``, the schedule's; ``before`` and ``after``, the change: ``enabled``, or ``run``, the id of the task
that was enqueued; ``who``, as for ``tasks_replayed``.

Not sent if nothing changes, nor for changes in the admin.
"""

queue_changed = DurableSignal("worker.queue_changed")
"""
Sent when a person pauses, resumes or limits a queue, inside the transaction that does so.

Arguments: ``queue``, its name; ``before`` and ``after``, its changed properties; ``who``, as for
``tasks_replayed``.

Not sent if nothing changes.
"""

rate_changed = DurableSignal("celery_ledger.rate_changed")
"""
Sent when the rate of a task is overridden, or the override is removed, inside the transaction that does so.

Arguments: ``task``, its name; ``before`` and ``after``, what was set, such as ``10/m``; None: the task's own rate
holds, and 0: no rate; ``who``, as for ``tasks_replayed``.

Not sent if nothing changes, nor for a task whose own rate changes with a release.
"""
