"""
The only module that talks to the broker: it publishes messages and counts those that wait.

Called by the relay alone; workers receive through Celery. A message names a task and carries the ids
of ledger rows, nothing else. Whatever the broker answers, the ledger stays right: a message that was
refused, lost or delivered twice is made good by leases and by the consumer.
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

from celery_ledger.uuid7 import uuid7

logger = logging.getLogger(__name__)

#: Seconds, RabbitMQ: a server that is out of memory, or a queue without a leader, confirms and answers nothing.
CONFIRM_TIMEOUT = 5.0


#: RabbitMQ: the queue exists with other arguments, or is exclusive to another connection; or it may not be created.
QUEUE_ERRORS = (AccessRefused, NotFound, PreconditionFailed, ResourceLocked)


class RefusedError(Exception):
    """
    The broker works, and did not take this message.

    Its queue is full, has no leader at the moment, or is there already and another one than we ask for.
    """


class UnsafeBrokerError(Exception):
    """The broker is set up to throw messages away."""


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
        """What :meth:`publish` and :meth:`depth` raise when the broker is away, full, unsafe or refuses."""
        connection = self.app.connection_for_write()
        return (*connection.connection_errors, *connection.channel_errors, UnsafeBrokerError)

    def check_policy(self) -> None:
        """
        Look whether the broker keeps what it is given; a broker that is away is looked at when it is back.

        Raises:
            UnsafeBrokerError: it is a Redis that evicts keys when its memory is full. A queue is one key.
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
        Look whether the broker keeps what it is given: its policy may be changed while one is connected.

        Raises:
            UnsafeBrokerError: as :meth:`check_policy`; the connection cannot be used then.
        """
        channel = self._open().channel
        if self._kind == "redis":
            _refuse_eviction(channel.client)

    def publish(self, queue: str, name: str, ids: Sequence[UUID]) -> None:
        """
        Hand over one message for the rows ``ids``, of which a canary has none, to the workers of ``queue``.

        Returns when the broker has it (RabbitMQ: confirmed). An error leaves open whether it does.

        Raises:
            RefusedError: RabbitMQ said that it did not take it, or cannot have such a queue.
        """
        if queue not in self._declared:
            self._declare(queue)
        producer = self._open()
        keys = [str(id) for id in ids]
        message = self.app.amqp.as_task_v2(
            # A single row's message bears its id, so that Flower and the ledger name it alike.
            keys[0] if len(keys) == 1 else str(uuid7()),
            name,
            (keys,),
            argsrepr=describe(keys),
            kwargsrepr="{}",
            ignore_result=True,
        )
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
        except MessageNacked:  # In no transport's list of errors.
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
            # RabbitMQ says what it has taken only to those who ask. Redis says it anyway.
            options = {"confirm_publish": True} if self._kind == "amqp" else {}
            self._connection = self.app.connection_for_write(transport_options=options)
            self._connection.connect()
            if self._kind == "amqp":
                # Or every other answer, and even the goodbye, would be waited for forever.
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
        Declare a queue as a worker does, which is harmless if it is there; return how many messages wait in it.

        One that the project says not to declare is only looked at.
        """
        queue = self.app.amqp.queues[name]
        channel = self._open().channel
        try:
            answer = queue.bind(channel).queue_declare(passive=bool(queue.no_declare))
        except QUEUE_ERRORS as error:
            self.close()  # The channel is closed, and this queue's trouble is no other's.
            raise RefusedError(str(error)) from None
        self._declared.add(name)
        return int(answer.message_count)


def describe(ids: Iterable[str]) -> str:
    """Return what logs and Flower call the rows of a message."""
    ids = list(ids)
    return f"({ids[0]})" if len(ids) == 1 else f"({len(ids)} rows{f' from {ids[0]}' if ids else ''})"


def keep_client(channel: Any) -> None:
    """
    Have a channel to Redis use one client, as long as its connections are the same ones.

    Kombu makes one for each command, which takes longer than the command. Channels of other brokers have none.
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
    Have a channel to Redis keep no copy of messages for durable tasks, as ``is_durable`` says of names.

    Kombu writes each message down again when it is taken, and deletes that at the end: two transactions a message, so
    that what dies with a worker comes back an hour later. The ledger brings it back in seconds. What a worker has not
    begun goes back when it ends, as ever. Channels of other brokers stay as they are.
    """
    if not getattr(channel, "ack_emulation", False):
        return
    theirs = channel.qos
    theirs._on_collect.cancel()
    channel.QoS = type("QoS", (_WithoutCopies, type(theirs)), {"is_durable": staticmethod(is_durable)})
    channel._qos = channel.QoS(channel, theirs.prefetch_count)


class _WithoutCopies:
    """What a channel knows of messages that were taken and not acknowledged; before kombu's own, for Redis."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._without: set[str] = set()
        super().__init__(*args, **kwargs)

    def append(self: Any, message: Any, delivery_tag: str) -> None:
        headers = message.headers
        is_durable = isinstance(headers, dict) and self.is_durable(headers.get("task"))
        if is_durable and delivery_tag not in self._delivered:
            self._without.add(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:  # Also where forged messages share a tag: a copy too many does no harm, one left behind does.
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
    except ResponseError:  # It does not tell, and then nothing of it can be said.
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
