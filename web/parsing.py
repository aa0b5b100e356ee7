"""Strict parsing of JSON from outside: limited size, depth and numbers, and valid characters."""

import json
import math
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

#: How deeply arrays and objects may be nested.
MAX_DEPTH: Final = 32
#: The most digits of a number that any column could hold.
MAX_DIGITS: Final = 32


class BodyTooLarge(APIException):
    """The body is longer than ``DATA_UPLOAD_MAX_MEMORY_SIZE``."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body may have at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes."


class StrictJSONParser(BaseParser):
    """
    Parses ``application/json``, in UTF-8.

    Input that a later layer could not handle is refused here with a 400: NUL characters and halves of surrogate pairs
    (which databases do not store), NaN and Infinity, absurdly long numbers, and nesting that would exhaust the stack.
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """
        Return the parsed body.

        Raises:
            BodyTooLarge: the body is longer than the setting allows.
            ParseError: the body is not JSON, or contains what this project refuses.
        """
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise BodyTooLarge
        try:
            value = json.loads(
                body.decode(), parse_constant=_refuse_constant, parse_int=_parse_int, parse_float=_parse_float
            )
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {_reason(error)}") from None
        _check(value)
        return value


def _check(value: Any) -> None:
    """Check ``value`` without recursion, level by level."""
    level, depth = [value], 0
    while level:
        deeper: list[Any] = []
        is_nested = False
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                is_nested = True
                for key in item:
                    _check_text(key)
                deeper.extend(item.values())
            elif isinstance(item, list):
                is_nested = True
                deeper.extend(item)
        depth += is_nested
        if depth > MAX_DEPTH:
            raise ParseError(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
        level = deeper


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ParseError("The JSON contains a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ParseError("The JSON contains an unpaired surrogate.") from None


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _reason(error: ValueError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
