"""
The only module that talks to the broker: it publishes messages and counts those that are waiting.

Called by the relay alone; workers receive through Celery. A message names a task and carries the ids
of ledger rows, nothing else. Whatever the broker answers, the ledger stays correct: leases and the
consumer compensate for messages that were refused, lost or delivered twice.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from amqp.exceptions import AccessRefused, MessageNacked, NotFound, PreconditionFailed, ResourceLocked
from celery import Celery
from kombu import Connection, Producer
from kombu.transport import virtual

from celery_ledger import databases
from celery_ledger.uuid7 import uuid7

logger = logging.getLogger(__name__)

#: Seconds, RabbitMQ: a server that is out of memory, or a queue without a leader, neither confirms nor answers.
CONFIRM_TIMEOUT = 5.0


#: RabbitMQ: the queue exists with different arguments, is exclusive to another connection, or may not be created.
QUEUE_ERRORS = (AccessRefused, NotFound, PreconditionFailed, ResourceLocked)


class RefusedError(Exception):
    """
    The broker works, but did not accept this message.

    Its queue is full, has no leader at the moment, or already exists with different arguments.
    """


class UnsafeBrokerError(Exception):
    """The broker is configured to discard messages."""


class Broker:
    """A connection to the broker, opened at first use and again after :meth:`close`."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._declared: set[str] = set()
        self._kind: str = app.connection_for_write().transport.driver_type  # redis, amqp or memory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        """The errors that :meth:`publish` and :meth:`depth` raise if the broker is away, full, unsafe or refuses."""
        connection = self.app.connection_for_write()
        return (*connection.connection_errors, *connection.channel_errors, UnsafeBrokerError)

    def check_policy(self) -> None:
        """
        Check that the broker never evicts messages; an unavailable broker is checked when it is back.

        Raises:
            UnsafeBrokerError: it is a Redis that evicts keys when its memory is full. A queue is a single key.
        """
        try:
            with self:
                self.refuse_eviction()
        except UnsafeBrokerError:
            raise
        except self.errors as error:
            logger.warning("The broker is unavailable: %s", error)

    def refuse_eviction(self) -> None:
        """
        Check that the broker never evicts messages: its policy may change during a connection.

        Raises:
            UnsafeBrokerError: as in :meth:`check_policy`; the connection is then unusable.
        """
        channel = self._open().channel
        if self._kind == "redis":
            _refuse_eviction(channel.client)

    def publish(self, queue: str, name: str, ids: Sequence[UUID]) -> None:
        """
        Publish one message for the rows ``ids`` (none for a canary) to the workers of ``queue``.

        Returns when the broker has it (RabbitMQ: confirmed). After an error it is unknown whether the broker has it.

        Raises:
            RefusedError: RabbitMQ rejected the message, or cannot have such a queue.
        """
        if queue not in self._declared:
            self._declare(queue)
        producer = self._open()
        keys = [str(id) for id in ids]
        message = self.app.amqp.as_task_v2(
            # A single row's message bears the row's id, so that Flower and the ledger use the same name.
            keys[0] if len(keys) == 1 else str(uuid7()),
            name,
            (keys,),
            argsrepr=describe(keys),
            kwargsrepr="{}",
            ignore_result=True,
        )
        if databases.are_several():
            message.headers[databases.HEADER] = databases.current()
        try:
            producer.publish(
                message.body,
                exchange="",
                routing_key=queue,
                headers=message.headers,
                serializer="json",
                retry=False,
                confirm_timeout=CONFIRM_TIMEOUT,
                delivery_mode=2,
                **message.properties,
            )
        except MessageNacked:  # Not in any transport's list of errors.
            raise RefusedError("it does not accept messages: full, or without a leader") from None

    def depth(self, queue: str) -> int:
        """
        Return how many messages wait in ``queue``, not counting those that workers hold.

        Raises:
            RefusedError: RabbitMQ cannot have such a queue.
        """
        return self._declare(queue)

    def close(self) -> None:
        """Drop the connection; the next call opens a new one."""
        connection, self._connection, self._producer = self._connection, None, None
        self._declared.clear()
        if connection is not None:
            connection.close()

    def _open(self) -> Producer:
        if self._producer is None:
            # RabbitMQ confirms messages only on request. Redis always answers.
            options = {"confirm_publish": True} if self._kind == "amqp" else {}
            self._connection = self.app.connection_for_write(transport_options=options)
            self._connection.connect()
            if self._kind == "amqp":
                # Otherwise the wait for any other answer, even that to closing the connection, would be unlimited.
                self._connection.connection.sock.settimeout(CONFIRM_TIMEOUT)
            channel = self._connection.channel()
            if self._kind == "redis":
                _refuse_cluster(channel.client)
                _refuse_eviction(channel.client)
                keep_client(channel)
            self._producer = Producer(channel, auto_declare=False)
        return self._producer

    def _declare(self, name: str) -> int:
        """
        Declare a queue as a worker does, which is harmless if it exists; return how many messages wait in it.

        A queue that the project marks with ``no_declare`` is only inspected.
        """
        queue = self.app.amqp.queues[name]
        channel = self._open().channel
        try:
            answer = queue.bind(channel).queue_declare(passive=bool(queue.no_declare))
        except QUEUE_ERRORS as error:
            self.close()  # The channel is closed, and other queues must not suffer from this one.
            raise RefusedError(str(error)) from None
        self._declared.add(name)
        return int(answer.message_count)


def describe(ids: Iterable[str]) -> str:
    """Return the text with which logs and Flower describe the rows of a message."""
    ids = list(ids)
    return f"({ids[0]})" if len(ids) == 1 else f"({len(ids)} rows{f' from {ids[0]}' if ids else ''})"


def keep_client(channel: Any) -> None:
    """
    Make a channel to Redis reuse one client until its connection pool changes.

    Kombu creates a client for each command, which takes longer than the command. Channels of other brokers have none.
    """
    make = getattr(channel, "_create_client", None)
    if make is None or "_create_client" in vars(channel):
        return
    kept: list[Any] = [None, None]

    def client(asynchronous: bool = False) -> Any:
        if asynchronous:
            return make(asynchronous=True)
        if kept[0] is not channel.pool:
            kept[:] = channel.pool, make()
        return kept[1]

    channel._create_client = client


def keep_no_copies(channel: Any, is_durable: Callable[[object], bool]) -> None:
    """
    Stop a channel to Redis from copying messages of durable tasks; ``is_durable`` decides by the task's name.

    Kombu stores a copy of each message when it is taken and deletes it at the end: two transactions per message, so
    that messages of a dead worker come back an hour later. The ledger brings them back in seconds. Messages that a
    worker has not started still go back to the queue when it exits. Channels of other brokers stay unchanged.
    """
    if not getattr(channel, "ack_emulation", False):
        return
    theirs = channel.qos
    theirs._on_collect.cancel()
    channel.QoS = type("QoS", (_WithoutCopies, type(theirs)), {"is_durable": staticmethod(is_durable)})
    channel._qos = channel.QoS(channel, theirs.prefetch_count)


class _WithoutCopies:
    """A channel's record of unacknowledged messages; a mixin that precedes kombu's own class for Redis."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._without: set[str] = set()
        super().__init__(*args, **kwargs)

    def append(self: Any, message: Any, delivery_tag: str) -> None:
        headers = message.headers
        is_durable = isinstance(headers, dict) and self.is_durable(headers.get("task"))
        if is_durable and delivery_tag not in self._delivered:
            self._without.add(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:  # Also if forged messages share a tag: an extra copy does no harm, a leftover copy does.
            self._without.discard(delivery_tag)
            super().append(message, delivery_tag)  # type: ignore[misc]

    def ack(self: Any, delivery_tag: str) -> None:
        if self._is_without(delivery_tag):
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)  # type: ignore[misc]

    def reject(self: Any, delivery_tag: str, requeue: bool = False) -> None:
        if not self._is_without(delivery_tag):
            super().reject(delivery_tag, requeue)  # type: ignore[misc]
            return
        if requeue:
            virtual.Channel._restore(self.channel, self._delivered[delivery_tag])
        virtual.QoS.ack(self, delivery_tag)

    def restore_unacked(self: Any, client: Any = None) -> Any:
        for tag in self._without & self._delivered.keys():
            virtual.Channel._restore(self.channel, self._delivered.pop(tag))
        self._without.clear()
        return super().restore_unacked(client)  # type: ignore[misc]

    def _is_without(self, delivery_tag: str) -> bool:
        is_without = delivery_tag in self._without
        self._without.discard(delivery_tag)
        return is_without


def _refuse_cluster(client: Any) -> None:
    from redis.exceptions import ResponseError

    try:
        is_cluster = bool(client.info("cluster").get("cluster_enabled"))
    except ResponseError:  # It does not report this, so nothing can be concluded.
        return
    if is_cluster:
        raise UnsafeBrokerError(
            "its Redis is a node of a Redis Cluster, which spreads keys over nodes: Celery's transport cannot take one "
            "message from several queues there. Use one Redis, watched by Sentinels (sentinel://), or RabbitMQ."
        )


def _refuse_eviction(client: Any) -> None:
    from redis.exceptions import ResponseError

    try:
        policy = client.info("memory").get("maxmemory_policy", "noeviction")
    except ResponseError as error:
        logger.warning("Redis does not report its maxmemory-policy, which must be noeviction: %s", error)
        return
    if policy != "noeviction":
        raise UnsafeBrokerError(
            f"its Redis has maxmemory-policy {policy} and would discard whole queues when its memory is full. "
            f"Set maxmemory-policy noeviction, and keep caches in another Redis."
        )
