"""Logging: lines for people, or one JSON object per line, each with its request id."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

from celery_ledger.context import current_request_id, current_subject

#: Characters that move the cursor or begin a new line: control characters, and Unicode's line ends and direction marks.
UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: What a caller may add to a line with ``extra={"data": {...}}``.
DATA = "data"
#: Celery names of the messages that only check whether a queue is consumed.
CANARY: Final = "celery_ledger.tasks.see_canary"


class NoCanaries(logging.Filter):
    """Drops Celery's lines about healthy canaries: twelve lines every ten seconds."""

    def filter(self, record: logging.LogRecord) -> bool:
        told = record.args if isinstance(record.args, dict) else {}
        return record.levelno > logging.INFO or told.get("name") != CANARY


class LineFormatter(logging.Formatter):
    """
    A line for people, which ends with the request's id if there is one.

    Whatever a client sent, a message stays on one line. Tracebacks, which come from our own code, follow unchanged.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - Python's name.
        """Return the line, with text escaped that could pass for a separate line."""
        line = UNSAFE.sub(lambda found: ascii(found[0])[1:-1], super().formatMessage(record))
        request_id = current_request_id()
        return f"{line} (request {request_id})" if request_id else line


class JSONFormatter(logging.Formatter):
    """One JSON object per line, including tracebacks; times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            "process": record.process,
        }
        if request_id := current_request_id():
            event["request_id"] = request_id
        if subject := current_subject():
            event["subject"] = subject
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        event |= getattr(record, DATA, {})
        return json.dumps(event, ensure_ascii=False, default=str)
