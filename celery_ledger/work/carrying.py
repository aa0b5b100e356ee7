"""
The permitted content of a message, and how a worker's process handles it.

A message only announces rows. Of everything that Celery's messages can carry (a body's arguments, callbacks, errbacks,
chains, time limits, a request to run immediately) only four things are trusted: the task whose rows it carries, the
message's own id, the rows' ids, and their database, if it is one of ``LEDGER_DATABASES``. :func:`purify` removes
everything else in the worker's parent, before Celery sees it; :func:`run` handles a message in the worker's child
processes, where a body can be reached only through a row.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any
from uuid import UUID

from billiard.einfo import ExceptionInfo
from celery import states
from celery.app import trace
from celery.utils.serialization import get_pickleable_etype, get_pickleable_exception
from django.db import InterfaceError, OperationalError

from celery_ledger import databases
from celery_ledger.context import Carrier, carried_by
from celery_ledger.databases import connection
from celery_ledger.relay.broker import describe
from celery_ledger.work import lines
from celery_ledger.work.runnable import Report, Runnable

logger = logging.getLogger(__name__)

#: Rows that one message may name; the relay's messages name at most a few hundred.
MOST_IDS = 1_000
#: Longest body that is parsed, in bytes.
LONGEST_BODY = 50 * MOST_IDS
#: Seconds that a message waits for an unavailable database, and between two attempts to reach it.
PATIENCE = 20.0
PAUSE = 0.5
#: Longest name of a task, in characters: the ledger has no longer ones.
LONGEST_NAME = 255


class StrangeMessageError(ValueError):
    """A message does not come from the relay; the text says why, and reveals nothing of the content."""


@dataclass(frozen=True)
class Errand:
    """The permitted content of a message."""

    task: str
    id: str
    ids: tuple[str, ...]
    #: The database that has the rows.
    database: str


def read(message: Any) -> Errand:
    """
    Return the errand of a message.

    Raises:
        StrangeMessageError: it does not come from the relay.
    """
    headers = message.headers
    if not isinstance(headers, dict):
        raise StrangeMessageError("its headers are none")
    name = headers.get("task")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise StrangeMessageError("it names no task")
    if message.content_type != "application/json":
        raise StrangeMessageError("it is not JSON")
    if not isinstance(message.body, (str, bytes)) or len(message.body) > LONGEST_BODY:
        raise StrangeMessageError("its body is none, or too long")
    try:
        (keys,), _, _ = json.loads(message.body)
    except (ValueError, TypeError, RecursionError):
        raise StrangeMessageError("its body is not that of a message") from None
    if not isinstance(keys, list) or len(keys) > MOST_IDS:
        raise StrangeMessageError("it names no rows, or too many")
    database = headers.get(databases.HEADER, databases.aliases()[0])
    if database not in databases.aliases():
        raise StrangeMessageError("its database is not one of LEDGER_DATABASES")
    return Errand(name, str(_uuid(headers.get("id"))), tuple(str(id) for id in parse_ids(keys)), database)


def parse_ids(keys: Iterable[Any]) -> list[UUID]:
    """
    Return the ids of rows that a message names.

    Raises:
        StrangeMessageError: one of them is not an id.
    """
    return [_uuid(key) for key in keys]


def purify(message: Any) -> None:
    """
    Remove everything but its errand from a message before Celery sees it.

    Raises:
        StrangeMessageError: it does not come from the relay.
    """
    errand = read(message)
    arguments = [[list(errand.ids)], {}, {}]
    message.body = json.dumps(arguments)
    message.content_type, message.content_encoding = "application/json", "utf-8"
    message.headers = {
        "lang": "py",
        "task": errand.task,
        "id": errand.id,
        "root_id": errand.id,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "eta": None,
        "expires": None,
        "shadow": None,
        "ignore_result": True,
        "argsrepr": describe(errand.ids),
        "kwargsrepr": "{}",
        "stamps": {},
        "stamped_headers": [],
        databases.HEADER: errand.database,
    }
    message.properties = {"correlation_id": errand.id}
    message.errors = []
    message._decoded_cache = arguments


def run(task: Runnable, id: str, args: list[Any], kwargs: dict[str, Any], request: dict[str, Any]) -> trace.trace_ok_t:
    """
    Make ``task`` run the rows that a message names: in place of Celery's tracer, with the same kind of return value.

    Only the parts of ``request`` that this worker itself put there are used.
    """
    began = monotonic()
    carrier = Carrier(
        id, request.get("hostname") or "", request.get("delivery_info") or {}, bool(request.get("has_listeners"))
    )
    try:
        with databases.using(request.get(databases.HEADER) or databases.aliases()[0]), carried_by(carrier):
            # With several databases, messages of one that is away must not hold the processes that serve the others.
            said = _take(task, args, patience=-1 if databases.are_several() else PATIENCE)
    except Exception as error:
        logger.exception("A message of %s cannot be dealt with; its rows come back when their lease ends.", task.name)
        told = ExceptionInfo(internal=True)
        told.exception = get_pickleable_exception(error)
        told.type = get_pickleable_etype(type(error))
        return trace.trace_ok_t(told, trace.TraceInfo(states.FAILURE, error), 0.0, None)
    runtime = monotonic() - began
    line = {
        "id": id,
        "name": task.name,
        "return_value": repr(str(said)),
        "runtime": runtime,
        "args": describe(args[0] if args else ()),
        "kwargs": "{}",
    }
    trace.logger.log(lines.level_of_messages(task), trace.LOG_SUCCESS, line, extra={"data": line})
    events = said.events() if said is not None and carrier.has_listeners else []
    return trace.trace_ok_t(None, None, runtime, json.dumps(events))


def _take(task: Runnable, args: list[Any], *, patience: float) -> Report | None:
    """Run the rows, waiting for an unavailable database: rows that are done by then are skipped the next time."""
    deadline = monotonic() + patience
    while True:
        try:
            return task.take(*args)
        except (InterfaceError, OperationalError) as error:
            if monotonic() > deadline:
                raise
            logger.warning("The database is away, and a message of %s waits for it: %r", task.name, error)
            connection.close()
            sleep(PAUSE)


def _uuid(key: Any) -> UUID:
    try:
        if isinstance(key, str) and len(key) == 36:
            return UUID(key)
    except ValueError:
        pass
    raise StrangeMessageError("one of its ids is none")
