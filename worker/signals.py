"""
Signals whose receivers cannot lose an order, and whose reactions cannot be lost.

``DurableSignal`` is sent with ``send_robust`` inside the sender's transaction. What its receivers
enqueue meanwhile is written by one statement after the last of them. A receiver that fails is
rolled back alone, logged, and sent the signal again by a durable task.
"""

import logging
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Any, cast

from celery import shared_task
from django.apps import apps
from django.db import connection, models, transaction
from django.dispatch import Signal

from worker.context import working_on
from worker.errors import PermanentError
from worker.outbox import collecting

logger = logging.getLogger(__name__)

_signals: dict[str, "DurableSignal"] = {}


class DurableSignal(Signal):
    """
    A signal that is part of its sender's transaction.

    ``name`` is permanent: ledger rows carry it. Arguments other than ``sender`` are model instances,
    decimals or JSON values, so that the signal can be sent again from a ledger row. The first model instance
    is the subject of every task that is enqueued while the signal is sent.

    Django's ``use_caching`` is off: finding five receivers took 1.5 microseconds, and 0.6 with it, of the
    milliseconds that an order takes (Python 3.11, two shared cores).
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
            TypeError: there is no ``dispatch_uid``; a failed receiver could not be found again.
            ValueError: the ``dispatch_uid`` is another receiver's, which Django would keep in silence.
        """
        if not isinstance(dispatch_uid, str) or not dispatch_uid:
            raise TypeError(f"Connect {receiver!r} to {self.name} with a dispatch_uid: ledger rows carry it.")
        known = self.receiver_for(dispatch_uid)
        if known is not None and known.function is not receiver:
            raise ValueError(f"{dispatch_uid!r} is connected to {self.name} already, as {known.__qualname__}.")
        super().connect(GuardedReceiver(receiver, dispatch_uid), sender, weak=False, dispatch_uid=dispatch_uid)

    def send_robust(self, sender: object, **named: Any) -> list[tuple[Any, Any]]:
        """
        Send to every receiver; what they enqueue becomes part of the current transaction.

        Returns Django's list of (receiver, response or error). A failed receiver has left nothing
        behind but a durable task that will send it this signal again.

        Raises:
            TransactionManagementError: there is no transaction that the reactions could be part of.
        """
        if not connection.in_atomic_block:
            raise transaction.TransactionManagementError(f"Send {self.name} inside transaction.atomic().")
        with working_on(subject=_subject_of(named)), collecting():
            responses = super().send_robust(sender, **named)
            for receiver, response in responses:
                if isinstance(response, Exception) and isinstance(receiver, GuardedReceiver):
                    self.handle_failure(receiver, response, named)
        return responses

    def handle_failure(self, receiver: "GuardedReceiver", error: Exception, named: dict[str, Any]) -> None:
        """Arrange that ``receiver``, which raised ``error``, is sent this signal again."""
        redeliver.delay(signal=self.name, dispatch_uid=receiver.dispatch_uid, arguments=_pack(named))

    def receiver_for(self, dispatch_uid: str) -> "GuardedReceiver | None":
        """Return the receiver that is connected under ``dispatch_uid``, or None."""
        for (uid, _), receiver, *_ in self.receivers:
            if uid == dispatch_uid:
                return cast("GuardedReceiver", receiver)
        return None


def durable_signals() -> list[DurableSignal]:
    """Return every durable signal there is, by name."""
    return [_signals[name] for name in sorted(_signals)]


class GuardedReceiver:
    """
    A receiver that leaves no half-done work: if it raises, nothing that it wrote or enqueued stays.

    On PostgreSQL one failed query spoils the whole transaction, and ``send_robust`` would swallow
    the error: the COMMIT would become a silent ROLLBACK of an order already answered with 201.
    """

    def __init__(self, function: Callable[..., Any], dispatch_uid: str) -> None:
        self.function = function
        self.dispatch_uid = dispatch_uid
        self.__qualname__ = getattr(function, "__qualname__", repr(function))
        self.__module__ = function.__module__

    def __call__(self, **named: Any) -> Any:
        with collecting() as calls, SavepointAtFirstQuery():
            enqueued_before = len(calls)
            try:
                return self.function(**named)
            except Exception:
                del calls[enqueued_before:]
                raise


class SavepointAtFirstQuery:
    """
    A savepoint that costs nothing until the block sends its first query.

    Most receivers only enqueue and send none; a savepoint for each would be two round trips.
    """

    def __init__(self) -> None:
        self._savepoint: str | None = None
        self._opening = False

    def __enter__(self) -> None:
        self._watch = connection.execute_wrapper(self._before_query)
        self._watch.__enter__()

    def _before_query(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        if self._savepoint is None and not self._opening and connection.in_atomic_block:
            self._opening = True  # Opening it is itself a query.
            self._savepoint = transaction.savepoint()
        return execute(*arguments)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)
        if self._savepoint is None:
            return
        if error is None:
            transaction.savepoint_commit(self._savepoint)
        else:
            transaction.set_rollback(False)
            transaction.savepoint_rollback(self._savepoint)


@shared_task(name="worker.tasks.redeliver")
def redeliver(*, signal: str, dispatch_uid: str, arguments: dict[str, Any]) -> None:
    """
    Send a signal again to the one receiver that failed.

    Effect: the receiver's own, in this task's transaction. A second delivery of the message finds
    the row done. Permanent errors: the receiver is no longer connected, or the object is gone.
    """
    source = _signals.get(signal)
    receiver = source and source.receiver_for(dispatch_uid)
    if not receiver:
        raise PermanentError(f"No receiver {dispatch_uid!r} is connected to a signal named {signal!r}.")
    receiver(signal=source, sender=None, **_unpack(arguments))


def _subject_of(named: dict[str, Any]) -> str | None:
    for value in named.values():
        if isinstance(value, models.Model):
            return f"{value._meta.label_lower}:{value.pk}"
    return None


def _pack(named: dict[str, Any]) -> dict[str, Any]:
    return {key: _pack_value(value) for key, value in named.items()}


def _pack_value(value: Any) -> Any:
    if isinstance(value, models.Model):
        return {"model": value._meta.label, "pk": value.pk}
    return {"decimal": str(value)} if isinstance(value, Decimal) else value


def _unpack(arguments: dict[str, Any]) -> dict[str, Any]:
    named = {}
    for key, value in arguments.items():
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
Sent for every schedule whose due time passed longer ago than the schedule's policy allows: by the relays,
every half a minute, while no beat runs it; and by beat when it comes back, inside the transaction that
enqueues what is to run.

Arguments: ``name``, the schedule's; ``due_at``, its oldest due time that did not run, in ISO 8601.

Sent by each relay and beat that finds it, again and again with the same arguments, so receivers must be repeatable.
Not sent for a schedule that is off, has not started, or whose policy says that it may be as late as it likes.
"""

tasks_replayed = DurableSignal("worker.tasks_replayed")
"""
Sent once for all dead tasks that a person replays together, inside the transaction that makes them pending.

Arguments: ``ids``, as strings; ``who``, the user's id, or None for somebody at a terminal; ``edited``, only
where the arguments were changed: ``{before, after}``, each ``{args, kwargs}``.

Not sent for the machine's own retries, nor where none of the tasks was dead any more.
"""

tasks_discarded = DurableSignal("worker.tasks_discarded")
"""
Sent once for all dead tasks that a person discards together, inside the transaction that does so.

Arguments: ``ids``, as strings; ``reason``; ``who``, as for ``tasks_replayed``.

Not sent where none of the tasks was dead any more.
"""

queue_changed = DurableSignal("worker.queue_changed")
"""
Sent when a person pauses, resumes or limits a queue, inside the transaction that does so.

Arguments: ``queue``, its name; ``before`` and ``after``, what of it changed; ``who``, as for
``tasks_replayed``.

Not sent where the queue was like that already.
"""
