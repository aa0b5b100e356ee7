"""
The worker's parent process: which brokers it takes messages from, and how it handles those it cannot run.

Named by ``CELERY_WORKER_CONSUMER``. A worker does not start on a broker that may discard messages. Celery would
drop a message for an unknown task, for example during a deploy, and mark it as failed; here its rows wait in the
ledger for a worker that knows the task.
"""

import logging
import threading
from collections.abc import Callable
from time import sleep
from typing import Any

from celery import signals
from celery.app import trace
from celery.worker import consumer as celery_consumer
from celery.worker.consumer.consumer import STOP_CONDITIONS
from celery.worker.consumer.delayed_delivery import DelayedDelivery
from celery.worker.request import create_request_cls
from celery.worker.state import task_reserved
from django.db import Error as DatabaseError

from celery_ledger import databases, sqlite
from celery_ledger.databases import connection
from celery_ledger.install import wrapped
from celery_ledger.relay.broker import Broker, UnsafeBrokerError, keep_client, keep_no_copies
from celery_ledger.work import arrivals, leaving, lines
from celery_ledger.work.carrying import StrangeMessageError, parse_ids, purify, read

logger = logging.getLogger(__name__)

#: Seconds until a loop that ended with an error restarts: a loop that always fails must not spin.
RESTART_PAUSE = 0.2
#: Seconds that a worker waits for Celery's own delay queues to be bound on every node of a RabbitMQ cluster.
DELAYS_PATIENCE = 1.0


class Consumer(celery_consumer.Consumer):
    """Celery's consumer of messages, in the parent process."""

    _was_ready = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for step in self.steps:
            if isinstance(step, DelayedDelivery):
                step.start = _with_patience(step.start)
        sqlite.write_in_line()
        try:
            Broker(self.app).check_policy()
        except UnsafeBrokerError as error:
            raise SystemExit(f"The worker cannot start: {error}") from None

    def connect(self) -> Any:
        """Connect to the broker as Celery does, and avoid the overhead of each command to a Redis."""
        connection = super().connect()
        keep_client(connection.default_channel)
        keep_no_copies(connection.default_channel, self._is_durable)
        return connection

    def _is_durable(self, name: object) -> bool:
        task = self.app.tasks.get(name) if isinstance(name, str) else None
        return bool(getattr(task, "durable", False))

    def start(self) -> None:
        """
        Take messages until the worker is stopped, whatever goes wrong meanwhile.

        Celery reconnects to its broker after the errors that it knows. After any other error, such as that of a
        connection closed during use, its worker would exit with everything that it holds.
        """
        while True:
            try:
                super().start()
                return
            except Exception as error:
                if not self._was_ready or self.blueprint.state in STOP_CONDITIONS:
                    raise
                logger.exception("The loop of this worker ended with an error and starts again.")
                self._begin_anew(error)

    def on_ready(self) -> None:
        """Recall the rows of tasks that other workers did not know: messages are taken from now on."""
        super().on_ready()
        if not self._was_ready:
            self._was_ready = True
            self._recall()

    def _recall(self) -> None:
        for alias in databases.aliases():
            with databases.using(alias):
                self._recall_of_one()

    def _recall_of_one(self) -> None:
        try:
            leaving.recall(list(self.app.tasks))
        except DatabaseError as error:
            logger.warning("What other workers left comes when it is due, for the database is away: %s", error)
        finally:
            connection.close()  # No connection may be open when the pool forks again.

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Pause before reconnecting: a broker that answers but refuses would otherwise be retried in a tight loop."""
        super().on_connection_error_after_connected(exc)
        if not isinstance(exc, self.connection_errors):
            sleep(RESTART_PAUSE)

    def _begin_anew(self, error: Exception) -> None:
        try:
            if self.connection:
                self.on_connection_error_after_connected(error)
            else:
                sleep(RESTART_PAUSE)
            self.on_close()
            self.blueprint.restart(self)
        except Exception:
            logger.exception("What the worker's loop left behind could not be cleared away.")

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return the handler of each message: it trusts nothing but the errand, and drops messages without one."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            if self._is_of_celery(message):
                handle(message)
                return
            try:
                purify(message)
            except StrangeMessageError as error:
                logger.warning("A malformed message was dropped: %s.", error)
                message.reject_log_error(logger, self.connection_errors)
            else:
                handle(message)

        return on_message

    def _is_of_celery(self, message: Any) -> bool:
        """Whether a message is for a task that is not durable, and therefore an ordinary Celery message."""
        headers = message.headers if isinstance(message.headers, dict) else {}
        name = headers.get("task")
        task = self.app.tasks.get(name) if isinstance(name, str) else None
        return task is not None and not getattr(task, "durable", False)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """
        Drop a message that cannot be decoded.

        Celery logs its body first. A body that has no length would raise there, end the connection, and come back.
        """
        if isinstance(message.body, (str, bytes)):
            super().on_decode_error(message, exc)
            return
        logger.warning("A malformed message was dropped: its body is none, and it cannot be decoded.")
        message.reject_log_error(logger, self.connection_errors)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Remove the message from the queue and leave its rows to other workers."""
        message.reject_log_error(logger, self.connection_errors)
        try:
            errand = read(message)
            with databases.using(errand.database):
                leaving.leave(parse_ids(errand.ids), f"no task {exc} is known here")
        except DatabaseError:
            logger.exception("A message names the unknown task %s; its rows come back when their lease ends.", exc)


def _with_patience(start: Callable[[Any], None]) -> Callable[[Any], None]:
    """
    Return a function that returns after :data:`DELAYS_PATIENCE` at the latest, while ``start`` continues in a thread.

    For each unavailable node, Celery makes four attempts in 17 seconds before the worker takes messages again, although
    only tasks that are not durable use these delays.
    """

    def start_with_patience(consumer: Any) -> None:
        thread = threading.Thread(target=start, args=(consumer,), name="delays", daemon=True)
        thread.start()
        thread.join(DELAYS_PATIENCE)

    return start_with_patience


def strategy(task: Any, app: Any, consumer: Consumer, **_: Any) -> Callable[..., None]:
    """
    Return the handler of messages of ``task``, which passes them to the pool at once.

    Celery's own strategy also enforces settings that do not come from messages here: times, which are in the ledger,
    and a task's rate, for which a worker would hold up everything else.
    """
    eventer = consumer.event_dispatcher
    level = lines.level_of_messages(task)
    request_class = create_request_cls(
        wrapped(task.Request, "celery_ledger.work.request:LedgerRequest"),
        task,
        consumer.pool,
        consumer.hostname,
        eventer,
        app=app,
    )

    def handle(message: Any, _payload: Any, ack: Any, reject: Any, callbacks: Any) -> None:
        request = request_class(
            message,
            on_ack=ack,
            on_reject=reject,
            app=app,
            hostname=consumer.hostname,
            eventer=eventer,
            task=task,
            connection_errors=consumer.connection_errors,
        )
        told = {"id": request.id, "name": request.name, "args": request.argsrepr, "kwargs": "{}", "eta": None}
        logger.log(level, trace.LOG_RECEIVED, told, extra={"data": told})
        if signals.task_received.receivers:
            arrivals.tell(consumer, request)
        if request.has_listeners:
            request.send_event(
                "task-received",
                name=request.name,
                args=request.argsrepr,
                kwargs=request.kwargsrepr,
                root_id=request.root_id,
                parent_id=None,
                retries=0,
                eta=None,
                expires=None,
            )
        task_reserved(request)
        for callback in callbacks or ():
            callback(request)
        consumer.on_task_request(request)

    return handle
