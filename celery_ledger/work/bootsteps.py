"""
A worker reports that it is running: from a thread, but only while its event loop is turning.

A stopped process reports nothing, and neither does one whose loop hangs. From the report, which includes the
messages that it has taken and how many it holds, :mod:`celery_ledger.watch.watchdog` recognises a live worker that
accepts nothing.
"""

import logging
import os
import threading
import time
from operator import itemgetter
from signal import SIGKILL
from typing import Any

import click
from celery import bootsteps, signals
from celery.concurrency import get_implementation, prefork, solo
from celery.exceptions import ImproperlyConfigured
from celery.worker import state
from click.core import ParameterSource
from django.db import Error as DatabaseError

from celery_ledger import databases
from celery_ledger.databases import connection
from celery_ledger.install import wrapped
from celery_ledger.models import Heartbeat
from celery_ledger.supervision import Troubles
from celery_ledger.watch import heartbeats, life, lookout, watchdog

logger = logging.getLogger(__name__)

#: Modules of pools whose tasks share one thread.
GREEN_POOLS = ("gevent", "eventlet")
LOOP_INTERVAL = 1.0  # seconds
INTERVAL = 5.0  # seconds
#: The loop counts as hung if it has not turned for this many seconds.
LOOP_HANGS_AFTER = 10.0
#: At most this many running messages are reported by a worker.
MOST_SAID = 20
EX_OK = 0
Wish = Heartbeat.Wish


class ClassesStep(bootsteps.Step):
    """
    Replaces Celery's pool and consumer with ours, or wraps the project's own.

    All steps of a worker are constructed before any of them creates its component.
    """

    def __init__(self, worker: Any, **options: Any) -> None:
        """
        Choose the classes.

        Raises:
            ImproperlyConfigured: the pool is one of green threads.
        """
        super().__init__(worker, **options)
        chosen = get_implementation(worker.pool_cls)
        if any(each.__module__.endswith(GREEN_POOLS) for each in chosen.__mro__):
            raise ImproperlyConfigured(
                f"Durable tasks do not run in the pool {chosen.__module__}: a lease is kept by a thread, and a "
                f"database transaction belongs to one. Use prefork (the default), threads or solo."
            )
        if issubclass(chosen, prefork.TaskPool):
            worker.pool_cls = wrapped(chosen, "celery_ledger.work.prefork:TaskPool")
        worker.consumer_cls = wrapped(worker.consumer_cls, "celery_ledger.work.reception:Consumer")


class ConnectionsStep(bootsteps.Step):
    """
    Keeps Celery from closing every database connection before and after a row: the row runs in a transaction.

    Tasks that are not durable keep Celery's behaviour.
    """

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._told: list[Any] = []  # Signals hold their receivers weakly.
        for fixup in getattr(worker.app, "_fixups", None) or ():
            for signal, name in ((signals.task_prerun, "on_task_prerun"), (signals.task_postrun, "on_task_postrun")):
                if (receiver := getattr(getattr(fixup, "worker_fixup", None), name, None)) is not None:
                    self._tell_of_others(signal, receiver)
        worker.connections_step = self

    def _tell_of_others(self, signal: Any, receiver: Any) -> None:
        def tell(sender: Any, **arguments: Any) -> None:
            if not getattr(sender, "durable", False):
                receiver(sender=sender, **arguments)

        signal.disconnect(receiver)
        signal.connect(tell)
        self._told.append(tell)


class PrefetchStep(bootsteps.Step):
    """
    Limits a worker to as many messages as its children run, unless the project or its command line says otherwise.

    ``celery worker`` reads that setting for its options before our default is applied below the project's settings.
    """

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        command = click.get_current_context(silent=True)
        if command and command.get_parameter_source("prefetch_multiplier") is ParameterSource.DEFAULT:
            worker.prefetch_multiplier = worker.app.conf.worker_prefetch_multiplier


class HeartbeatStep(bootsteps.StartStopStep):
    """The heartbeat, as a part of a worker's start and stop."""

    requires = {"celery.worker.components:Timer", "celery.worker.components:Pool"}

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        worker.has_broker = False  # Until the consumer's step, below, says otherwise.
        worker.loop_went_round = time.monotonic()
        worker.wish = ""
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._wishes: dict[str, str] = {}  # of each database's operators
        self._takes_nothing: set[str] = set()  # the databases in which that can be seen
        self._queues: list[str] = []

    def start(self, worker: Any) -> None:
        """Start the heartbeat."""
        if life.is_wanted():  # In a thread that never blocks: the other one waits for the database.
            threading.Thread(target=self._live, args=(worker,), name="sign of life", daemon=True).start()
        for alias in databases.aliases():  # A thread for each, because one that is away makes only its own wait.
            thread = threading.Thread(target=self._beat, args=(worker, alias), name="heartbeat", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, worker: Any) -> None:
        """Report that the worker is stopping."""
        self._stopping.set()
        deadline = time.monotonic() + INTERVAL
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def terminate(self, worker: Any) -> None:
        """Do the same as :meth:`stop`."""
        self.stop(worker)

    def _beat(self, worker: Any, alias: str) -> None:
        troubles = Troubles(logger)
        with databases.using(alias):
            _say(troubles, lambda: heartbeats.begin(Heartbeat.Kind.WORKER))
            while not self._stopping.is_set():
                before = worker.wish
                _say(troubles, lambda: self._beat_once(worker))
                self._stopping.wait(INTERVAL if worker.wish == before else LOOP_INTERVAL)
            _say(troubles, lambda: heartbeats.end(Heartbeat.Kind.WORKER))

    def _live(self, worker: Any) -> None:
        """Give the sign of life, except when restarting this worker would help."""
        while not self._stopping.wait(life.INTERVAL):
            if _goes_round(worker) and not self._takes_nothing:
                life.sign()

    def _beat_once(self, worker: Any) -> None:
        if _goes_round(worker):
            self._wishes[databases.current()] = heartbeats.beat(
                Heartbeat.Kind.WORKER,
                _state_of(worker),
                queues=self._queues_of(worker),
                active=len(state.reserved_requests),
                # An atomic copy: the event loop keeps counting meanwhile.
                received=sum(state.total_count.copy().values()),
                doing=_doing(),
                memory=heartbeats.memory_of(_pids_of(worker)),
            )
            wishes = set(self._wishes.values())
            worker.wish = next((wish for wish in (Wish.STOP, Wish.DRAIN) if wish in wishes), "")
            if worker.wish == Wish.STOP:
                state.should_stop = EX_OK
        elif (
            not isinstance(worker.pool, solo.TaskPool)
            and Heartbeat.objects.filter(process=heartbeats.own_name(Heartbeat.Kind.WORKER), wish=Wish.STOP).exists()
        ):
            logger.error("The event loop of this worker hangs and it was told to stop: it is killed.")
            os.kill(os.getpid(), SIGKILL)
        lookout.for_relays()
        if life.is_wanted():
            own = heartbeats.own_name(Heartbeat.Kind.WORKER)
            is_stalled = own in {problem.stalled for problem in watchdog.of_workers()}
            (self._takes_nothing.add if is_stalled else self._takes_nothing.discard)(databases.current())

    def _queues_of(self, worker: Any) -> list[str]:
        """Return the queues that a worker serves, which remote control may change; a drained one left them for now."""
        served = list(worker.app.amqp.queues.consume_from)  # A copy: the event loop may change it meanwhile.
        self._queues = sorted(served) or self._queues
        return self._queues


def _say(troubles: Troubles, what: Any) -> None:
    """Report to the database on a temporary connection, so that none is open when the pool forks."""
    try:
        with troubles.caught("saying that this worker is running"):
            what()
    except DatabaseError as error:
        logger.warning("The database does not hear this worker: %s", error)
    finally:
        connection.close()


def _state_of(worker: Any) -> str:
    """Return the state of a worker: ``ok``, or why it accepts nothing."""
    if not worker.has_broker:
        return heartbeats.BROKER_AWAY
    if worker.wish != Wish.DRAIN:
        return heartbeats.OK
    return heartbeats.DRAINING if state.reserved_requests else heartbeats.DRAINED


def _doing() -> list[dict[str, Any]]:
    """Return the running messages: each with its task, the number of rows, the first of them, and its run time."""
    now = time.monotonic()
    running = [
        {
            "task": request.name,
            "tasks": len(ids) or 1,
            "id": str(ids[0]) if ids else request.id,
            "seconds": round(max(0.0, now - (request.time_start or now)), 1),
        }
        for request in list(state.active_requests)
        for ids in [getattr(request, "ids", [])]
    ]
    return sorted(running, key=itemgetter("seconds"), reverse=True)[:MOST_SAID]


def _pids_of(worker: Any) -> list[int]:
    """Return the worker's process and the children of its pool, if it has any."""
    pool = getattr(getattr(worker, "pool", None), "_pool", None)
    return [os.getpid(), *(child.pid for child in list(getattr(pool, "_pool", None) or ()) if hasattr(child, "pid"))]


def _goes_round(worker: Any) -> bool:
    """Whether the event loop is turning; true for a worker without a broker, which a restart would not help."""
    return not worker.has_broker or time.monotonic() - worker.loop_went_round < LOOP_HANGS_AFTER


class LoopStep(bootsteps.StartStopStep):
    """A timer that each start of the consumer sets again: Celery drops all timers when it loses the broker."""

    requires = {"celery.worker.consumer.connection:Connection"}

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._left: list[str] = []  # The queues that are not consumed because the worker is drained.

    def start(self, consumer: Any) -> None:
        """Start recording that the event loop turns, and carry out an operator's request to the worker there."""
        worker = consumer.controller

        def go_round() -> None:
            worker.loop_went_round = time.monotonic()
            if worker.wish == Wish.DRAIN and not self._left:
                self._leave_queues(consumer)
            elif not worker.wish and self._left:
                self._take_queues(consumer)

        worker.loop_went_round = time.monotonic()
        consumer.timer.call_repeatedly(LOOP_INTERVAL, go_round)
        worker.has_broker = True

    def stop(self, consumer: Any) -> None:
        """Record that the broker was lost or that the worker is stopping."""
        consumer.controller.has_broker = False

    def _leave_queues(self, consumer: Any) -> None:
        self._left = list(consumer.app.amqp.queues.consume_from)
        for queue in self._left:
            consumer.cancel_task_queue(queue)
        logger.info("This worker is drained: it takes no more messages.")

    def _take_queues(self, consumer: Any) -> None:
        left, self._left = self._left, []
        consumer.app.amqp.queues.select(left)
        for queue in left:
            consumer.add_task_queue(queue)
        logger.info("This worker takes messages again.")
