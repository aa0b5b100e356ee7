"""
Arguments that do not survive JSON, for tasks with a serializer such as pickle.

The row stores them as that serializer writes them, if the project's ``accept_content`` includes its content type. They
are kept among the row's options, where no caller's data can be, and never among its arguments: data that only looks
like a pickle is never loaded.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

from kombu.serialization import dumps, loads, prepare_accept_content

from celery_ledger.errors import PermanentError
from celery_ledger.project import find_app
from celery_ledger.rows import arguments
from celery_ledger.rows.calls import arguments_as_json

#: Where a row's options hold them.
KEY: Final = "serialized"
JSON_ALONE: Final = {"application/json"}


def as_texts(
    task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any], *, serializer: str | None
) -> tuple[str, str]:
    """
    Return a call's arguments in stored form; add those that are not JSON to ``options``.

    ``serializer`` is the call's; None: the task's.

    Raises:
        TypeError, ValueError: as for :func:`celery_ledger.rows.calls.arguments_as_json`, if the project accepts only
            JSON, or not what that serializer writes.
    """
    serializer = serializer or task.serializer
    if serializer in (None, "json") or (accepted := _accepted(task.app)) <= JSON_ALONE:
        return arguments_as_json(task.name, args), arguments_as_json(task.name, kwargs)
    try:
        texts = arguments_as_json(task.name, args), arguments_as_json(task.name, kwargs)
        if (arguments.read(texts[0]), arguments.read(texts[1])) == (list(args), kwargs):
            return texts
    except TypeError:
        pass  # Otherwise, as the serializer writes them.
    content_type, encoding, body = dumps((args, kwargs), serializer)
    if content_type not in accepted:
        return arguments_as_json(task.name, args), arguments_as_json(task.name, kwargs)
    data = body.encode() if isinstance(body, str) else body
    options[KEY] = [content_type, encoding, b64encode(data).decode()]
    return "[]", "{}"


def given(
    args: list[Any], kwargs: dict[str, Any], options: Mapping[str, Any] | None
) -> tuple[list[Any], dict[str, Any], PermanentError | None]:
    """Return the arguments for the body of a row, and an error if they cannot be read here."""
    said = options.get(KEY) if options else None
    if said is None:
        return args, kwargs, None
    try:
        content_type, encoding, body = said
        args, kwargs = loads(b64decode(body), content_type, encoding, accept=_accepted(find_app()))
    except Exception as error:  # noqa: BLE001 - whatever a class raises that has changed since
        return [], {}, PermanentError(f"Its arguments cannot be read: {type(error).__name__}: {error}")
    return list(args), kwargs, None


def _accepted(app: Any) -> set[str]:
    return set(prepare_accept_content(app.conf.accept_content) or ())
