"""
A worker says that it is at work: from a thread, but only while its event loop goes round.

A stopped process says nothing, and neither does one whose loop hangs. What it says, its messages and how
many it has in its hands, lets :mod:`worker.watchdog` tell a worker that lives and takes nothing.
"""

import logging
import threading
import time
from typing import Any

from celery import bootsteps
from celery.worker import state
from django.db import Error as DatabaseError
from django.db import connection

from worker import heartbeats
from worker.models import Heartbeat

logger = logging.getLogger(__name__)

LOOP_INTERVAL = 1.0  # seconds
INTERVAL = 5.0  # seconds
#: The loop hangs if it has not gone round for so long, in seconds.
LOOP_HANGS_AFTER = 10.0


class HeartbeatStep(bootsteps.StartStopStep):
    """Part of a worker's start and stop."""

    requires = {"celery.worker.components:Timer", "celery.worker.components:Pool"}

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        worker.has_broker = False  # Until the consumer's step, below, says otherwise.
        worker.loop_went_round = time.monotonic()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:
        """Begin to beat."""
        queues = sorted(worker.app.amqp.queues.consume_from)
        self._thread = threading.Thread(target=self._beat, args=(worker, queues), name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        """Say that the worker stops."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(INTERVAL)

    def terminate(self, worker: Any) -> None:
        """As :meth:`stop`."""
        self.stop(worker)

    def _beat(self, worker: Any, queues: list[str]) -> None:
        while not self._stopping.is_set():
            # A worker that looks for its broker has no loop, and to start it again would not help.
            if not worker.has_broker or time.monotonic() - worker.loop_went_round < LOOP_HANGS_AFTER:
                received = sum(state.total_count.values())
                self._say(
                    lambda: heartbeats.beat(
                        Heartbeat.Kind.WORKER,
                        heartbeats.OK if worker.has_broker else heartbeats.BROKER_AWAY,
                        queues=queues,
                        active=len(state.reserved_requests),
                        received=received,  # noqa: B023 - called at once
                    )
                )
            self._stopping.wait(INTERVAL)
        self._say(lambda: heartbeats.end(Heartbeat.Kind.WORKER))

    def _say(self, what: Any) -> None:
        """Speak to the database on a connection of this moment: none is open when the pool forks."""
        try:
            what()
        except DatabaseError as error:
            logger.warning("The database does not hear this worker: %s", error)
        finally:
            connection.close()


class LoopStep(bootsteps.StartStopStep):
    """Part of each start of the consumer: Celery drops all timers when it loses the broker."""

    requires = {"celery.worker.consumer.connection:Connection"}

    def start(self, consumer: Any) -> None:
        """Note from now on that the event loop goes round."""
        worker = consumer.controller

        def go_round() -> None:
            worker.loop_went_round = time.monotonic()

        go_round()
        consumer.timer.call_repeatedly(LOOP_INTERVAL, go_round)
        worker.has_broker = True

    def stop(self, consumer: Any) -> None:
        """Note that the broker was lost, or that the worker ends."""
        consumer.controller.has_broker = False
