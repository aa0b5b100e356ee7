"""
Options of a call other than its arguments: headers, properties and limits, kept for ``self.request``.

Most calls have none, and their rows only record which process made the call. Options about Celery's message itself,
such as a serializer, mean nothing to a row and are left out.
"""

import json
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from celery import signals
from celery.app.task import Context
from celery.utils.nodenames import anon_nodename
from django.utils import timezone

from celery_ledger.context import current_actor
from celery_ledger.ids import call_id
from celery_ledger.rows import canvases
from celery_ledger.rows.calls import Call, arguments_as_json

#: Options about a message, which a row does not have.
_ABOUT_MESSAGES = frozenset(
    (
        *("producer", "publisher", "connection", "router", "route_name", "task_type", "result_cls", "add_to_parent"),
        *("retry", "retry_policy", "serializer", "compression", "delivery_mode", "mandatory", "immediate", "reply_to"),
        *("declare", "exchange_type", "timeout", "confirm_timeout", "event_dispatcher", "create_sent_event"),
    )
)
#: Its place in a canvas; see :mod:`celery_ledger.rows.following`.
_OF_CANVAS = frozenset(
    ("link", "link_error", "chain", "chord", "group_id", "group_index", "replaced_task_nesting", "stamped_headers")
)
#: Those that a Celery message carries under the same name.
_OF_THE_MESSAGE = frozenset(("group_id", "group_index", "replaced_task_nesting"))
_REFUSED = dict.fromkeys(("exchange", "routing_key"), "Name a queue: apply_async(queue=...).")
#: Attributes of ``self.request`` of the same name.
_OF_THE_REQUEST = frozenset(("shadow", "root_id", "parent_id", "ignore_result", "argsrepr", "kwargsrepr"))
#: Its further attributes, which no option of a call sets.
_OF_THE_CALL = ("timelimit", "eta", "expires", "origin", "serialized")
#: Attributes of ``self.request`` that no header may override.
_OF_THE_ROW = frozenset(
    (
        *(
            "id",
            "task",
            "lang",
            "args",
            "kwargs",
            "retries",
            "attempt_limit",
            "retry_asked",
            "called_directly",
            "is_eager",
            "hostname",
            "origin",
            "serialized",
        ),
        *("delivery_info", "headers", "properties", "correlation_id", "utc", "timelimit", "callbacks", "errbacks"),
        *("chain", "chord", "group", "group_index", "reply_to", "errbacks", "_protected", "_children"),
        *(name for name in dir(Context) if name.startswith("__") or callable(getattr(Context, name))),
    )
)


def options_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the options of a call other than its arguments, as its row stores them; empty for most.

    Raises:
        TypeError: a value is not JSON, or an option does not exist for durable calls.
    """
    refuse(name, {option: value for option, value in given.items() if option in _REFUSED})
    options: dict[str, Any] = {}
    limits: list[float | None] = [None, None]
    properties: dict[str, Any] = {}
    stamps = given.get("stamped_headers") or ()
    for option, value in given.items():
        if value is None or option in _ABOUT_MESSAGES or option in _REFUSED or option in _OF_CANVAS or option in stamps:
            continue
        if option == "headers":
            options["headers"] = dict(value)
        elif option in ("time_limit", "soft_time_limit"):
            limits[option == "soft_time_limit"] = _checked_limit(name, option, value)
        elif option in _OF_THE_REQUEST:
            options[option] = value
        else:
            properties[option] = value
    if any(limits):
        options["timelimit"] = limits
    if properties:
        options["properties"] = properties
    return options


def refuse(name: str, given: Mapping[str, Any]) -> None:
    """
    Refuse options whose effect would be missed; ignore unset ones and those about messages.

    Raises:
        TypeError: names the first, and says what to do instead.
    """
    for option in given:
        if option not in _ABOUT_MESSAGES and given[option] is not None and given[option] not in ([], (), {}):
            raise TypeError(f"{name}: a durable call has no option {option!r}. {_REFUSED.get(option, '')}".rstrip())


def add_parent(options: dict[str, Any], maker: Any) -> None:
    """Store the parent task and the root of this call, unless the call sets them."""
    if (caller := canvases.caller()) is not None:
        options.setdefault("parent_id", caller[0])
        options.setdefault("root_id", caller[1])
    elif maker is not None and maker.request.id:
        options.setdefault("parent_id", maker.request.id)
        options.setdefault("root_id", maker.request.root_id or maker.request.id)


def add_id(name: str, options: dict[str, Any], id: UUID, task_id: Any, unique_key: str | None) -> None:
    """
    Store the id that a call chose if its row has a different one; see :mod:`celery_ledger.ids`.

    Raises:
        ValueError: it also has a ``unique_key``, so that other callers' handles would not know its id.
    """
    if (text := str(task_id)) == str(id):
        return
    if unique_key is not None:
        raise ValueError(f"{name}: with a unique_key a task_id is a UUID, not {text!r}, for it may be another call's.")
    options["task_id"] = text


def add_times(
    options: dict[str, Any], countdown: float, eta: datetime | None, expires: datetime | float | None
) -> None:
    """Store the call's own due and expiry times; the columns of the row decide."""
    if eta is not None or countdown:
        options["eta"] = (eta or timezone.now() + timedelta(seconds=countdown)).isoformat()
    if expires is not None:
        options["expires"] = _as_text(expires)


def otherwise(name: str, given: dict[str, Any], expires: datetime | float | None) -> dict[str, Any]:
    """
    Return the options of a row with the changes that a retry makes.

    Raises what :func:`options_of` raises.
    """
    if follows := sorted(option for option in given.keys() & _OF_CANVAS if given[option]):
        raise TypeError(f"{name}: a retry has no option {follows[0]!r}. What follows is said when the call is made.")
    options = options_of(name, given)
    if expires is not None:
        options["expires"] = _as_text(expires)
    return dict(json.loads(arguments_as_json(name, options, what="options"))) if options else {}


def _as_text(moment: datetime | float) -> str:
    at = moment if isinstance(moment, datetime) else timezone.now() + timedelta(seconds=moment)
    return at.isoformat()


def as_json(name: str, options: dict[str, Any]) -> str:
    """Return the options in stored form, with the name of the calling process and the current user."""
    origin = _origin()
    if (actor := current_actor()) is not None:
        options = {"actor": actor} | options
    return arguments_as_json(name, {"origin": origin} | options, what="options") if options else _alone(origin)


@cache
def _origin() -> str:
    return str(anon_nodename())


os.register_at_fork(after_in_child=_origin.cache_clear)  # The name contains the process's id.


@cache
def _alone(origin: str) -> str:
    return json.dumps({"origin": origin})


def are_heard() -> bool:
    """Whether Celery's publish signals have receivers, which may add headers."""
    return bool(
        signals.before_task_publish.receivers or signals.after_task_publish.receivers or signals.task_sent.receivers
    )


class Announcement:
    """The content of Celery's publish signals for a call: the message that it would have been."""

    def __init__(self, app: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]):
        limits = given.get("timelimit") or [None, None]
        expires = call.expires
        canvas = canvases.of(given)
        self.call = call
        self.message = app.amqp.as_task_v2(
            call_id(call.id, given),
            call.name,
            args,
            kwargs,
            countdown=call.countdown or None,
            eta=call.eta,
            expires=expires,
            time_limit=limits[0],
            soft_time_limit=limits[1],
            callbacks=canvas.get("link"),
            errbacks=canvas.get("link_error"),
            **{name: canvas[name] for name in _OF_THE_MESSAGE if name in canvas},
            **{name: given[name] for name in _OF_THE_REQUEST if name in given},
        )
        self.message.headers.update({name: canvas[name] for name in ("stamped_headers", "stamps") if name in canvas})
        self.own = set(self.message.headers)
        self.headers = {**self.message.headers, **given.get("headers", {})}
        self.properties = {**self.message.properties, **given.get("properties", {})}

    def before(self, options: dict[str, Any]) -> None:
        """Announce that a row is about to be written, and add receivers' headers to ``options``."""
        signals.before_task_publish.send(
            sender=self.call.name,
            body=self.message.body,
            exchange="",
            routing_key=self.call.queue,
            declare=[],
            headers=self.headers,
            properties=self.properties,
            retry_policy=None,
        )
        if added := {name: value for name, value in self.headers.items() if name not in self.own}:
            options["headers"] = added

    def after(self) -> None:
        """Announce that the row is written, in a transaction that has yet to commit."""
        signals.after_task_publish.send(
            sender=self.call.name,
            body=self.message.body,
            headers=self.headers,
            exchange="",
            routing_key=self.call.queue,
        )
        args, kwargs, _ = self.message.body
        signals.task_sent.send(
            sender=self.call.name,
            task_id=self.headers["id"],
            task=self.call.name,
            args=args,
            kwargs=kwargs,
            eta=self.headers["eta"],
            taskset=self.headers["group"],
        )


def for_the_request(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the attributes of ``self.request`` from a row's options; headers also appear by name."""
    if not options:
        return {}
    headers = options.get("headers") or {}
    return {
        **{name: value for name, value in headers.items() if name.isidentifier() and name not in _OF_THE_ROW},
        **{name: options[name] for name in (*_OF_THE_REQUEST, *_OF_THE_CALL) if name in options},
        "headers": headers,
        "properties": options.get("properties") or {},
    }


def _checked_limit(name: str, option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise TypeError(f"{name}: {option} is a number of seconds above 0, not {value!r}.")
    return value
