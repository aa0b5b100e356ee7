"""
``task_received``, sent for each row that a message carries, as if the row were a separate message.

A message contains only the ids of its rows. The rows are read, with one query per message, only in projects that
have a receiver.
"""

import logging
from typing import Any
from uuid import UUID

from celery import signals
from celery.worker.request import Request
from django.db import DatabaseError
from kombu.message import Message

from celery_ledger import databases
from celery_ledger.databases import connection
from celery_ledger.rows import ledger
from celery_ledger.work.telling import request_of

logger = logging.getLogger(__name__)

#: The contents of a Celery message body in addition to the arguments.
EMBEDDED = ("callbacks", "errbacks", "chain", "chord")
#: Attributes of a task's request that are not message headers.
NO_HEADERS = frozenset((*EMBEDDED, "args", "kwargs", "serialized", "properties", "delivery_info"))


def tell(consumer: Any, carrier: Any) -> None:
    """Send the signal for each row of the message whose request is ``carrier``; for none if the database is away."""
    with databases.using(carrier.database):
        requests = _read(consumer, carrier)
    for request in requests:
        signals.task_received.send(sender=consumer, request=request)


def _read(consumer: Any, carrier: Any) -> list[Request]:
    try:
        rows = {str(row.id): row for row in ledger.arrived([UUID(id) for id in carrier.ids])}
        return [_request_of(consumer, carrier, rows[id]) for id in carrier.ids if id in rows]
    except DatabaseError as error:
        logger.warning("What a message of %s brings cannot be read, and no receiver is told: %s", carrier.name, error)
        return []
    finally:
        connection.close()  # No connection may be open when the pool forks again.


def _request_of(consumer: Any, carrier: Any, row: ledger.Started) -> Request:
    """Return a row as the request that Celery would create from a message of that task."""
    task = consumer.app.tasks.get(row.name, carrier.task)
    told = request_of(task, row)
    properties = {"correlation_id": told.id, "priority": row.priority, **told.properties}
    return Request(
        Message(properties=properties, delivery_info={**carrier.delivery_info, "routing_key": row.queue}),
        app=consumer.app,
        hostname=carrier.hostname,
        task=task,
        headers={name: value for name, value in vars(told).items() if name not in NO_HEADERS},
        body=(row.args, row.kwargs, {name: getattr(told, name) for name in EMBEDDED}),
        decoded=True,
    )
