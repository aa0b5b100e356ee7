"""
Sending SMS: to the console, to files, or over HTTP to an SMS gateway.

The scheme of ``SMS_URL`` says which; ``SMS_SENDERS`` maps schemes to classes, so another transport is one more class
there. Promises that a message was accepted unless an error was raised, that every call ends, and that no error contains
a number or a text.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import uuid4

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from celery_ledger.errors import PermanentError

TIMEOUT: Final = 10  # seconds
#: Statuses after which the same message may be accepted later, as after any 5xx.
MAYBE_LATER: Final = frozenset({408, 425, 429})


class SmsDeferredError(Exception):
    """The message was not accepted, but may be later."""


class SmsRefusedError(PermanentError):
    """The message will never be accepted."""


class Sender(Protocol):
    """A transport for SMS, configured by ``SMS_URL``."""

    def __init__(self, url: str) -> None: ...

    def send(self, to: str, text: str, *, reference: str) -> None:
        """
        Send one message. A message that is sent again has the same ``reference``.

        Raises:
            SmsDeferredError, OSError: not now.
            SmsRefusedError: never.
        """


def send(to: str, text: str, *, reference: str) -> None:
    """Send ``text`` to a number over ``SMS_URL``; raises what :class:`Sender` raises."""
    make: type[Any] = import_string(settings.SMS_SENDERS[urlsplit(settings.SMS_URL).scheme])
    make(settings.SMS_URL).send(to, text, reference=reference)


class ConsoleSender:
    """``console:``: on the standard output of the worker, for development."""

    def __init__(self, url: str) -> None:
        self.stream = sys.stdout

    def send(self, to: str, text: str, *, reference: str) -> None:
        self.stream.write(f"SMS to {to}: {text}\n")
        self.stream.flush()


class FileSender:
    """``file:///folder``: a file for each message, for development."""

    def __init__(self, url: str) -> None:
        self.folder = Path(unquote(urlsplit(url).path))

    def send(self, to: str, text: str, *, reference: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{timezone.now():%Y%m%d-%H%M%S-%f}-{uuid4().hex[:8]}"
        unfinished = self.folder / f".{name}.tmp"
        unfinished.write_text(f"To: {to}\n\n{text}\n")
        os.replace(unfinished, self.folder / f"{name}.txt")


class HttpSender:
    """
    ``https://user:password@host/path``: a POST of ``{"to", "text"}`` as JSON, with an ``Idempotency-Key``.

    The gateway answers with a 2xx. One with a different protocol needs a small class next to this one.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit(parts._replace(netloc=host))
        self.auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None

    def send(self, to: str, text: str, *, reference: str) -> None:
        import httpx  # A process that sends no SMS need not load it.

        try:
            answer = httpx.post(
                self.url,
                json={"to": to, "text": text},
                auth=self.auth,
                headers={"Idempotency-Key": reference},
                timeout=TIMEOUT,
            )
        except httpx.HTTPError as error:
            raise SmsDeferredError(f"The SMS gateway did not answer: {type(error).__name__}.") from None
        if answer.is_success:
            return
        if answer.is_server_error or answer.status_code in MAYBE_LATER:
            raise SmsDeferredError(f"The SMS gateway answered {answer.status_code}.")
        raise SmsRefusedError(f"The SMS gateway refused the message: {answer.status_code}.")
