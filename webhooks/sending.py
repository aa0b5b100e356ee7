"""
One attempt of a delivery: a signed POST, and its outcome.

Promises that an attempt ends: after :data:`DEADLINE` seconds its connection is cut, however slowly the receiver
answers. No redirect is followed, no proxy is used, and only the head and one kilobyte of an answer are read.
"""

import http.client
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from django.utils import timezone

from webhooks.destinations import ForbiddenDestinationError, check_url, open_connection
from webhooks.models import MAX_ANSWER, WebhookDelivery, WebhookEndpoint
from webhooks.signing import sign

#: Seconds for everything after the connection is made.
DEADLINE: Final = 10.0
#: The longest Retry-After that is respected, in seconds.
MAX_RETRY_AFTER: Final = 3_600.0


class NoSecretError(Exception):
    """No secret of the endpoint can be decrypted: SECRET_KEY has changed."""


class NotTakenError(Exception):
    """An attempt failed, and another one will follow."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt: ``error`` is empty on success, ``status_code`` None without a response."""

    status_code: int | None
    milliseconds: int
    answer: str = ""
    error: str = ""
    retry_after: float = 0.0

    @property
    def is_gone(self) -> bool:
        """Whether the receiver refuses all further messages."""
        return self.status_code == HTTPStatus.GONE


def send(delivery: WebhookDelivery) -> Outcome:
    """Post a delivery to its endpoint. The outcome includes every kind of failure."""
    body = delivery.body.encode()
    began = time.monotonic()
    status_code, answer, retry_after = None, "", 0.0
    try:
        headers = {
            **sign(keys_of(delivery.endpoint), message_id=delivery.message_id, timestamp=int(time.time()), body=body),
            "Content-Type": "application/json",
            "User-Agent": "Shopwire-Webhooks",
        }
        status_code, answer, retry_after = _post(delivery.endpoint.url, body, headers)
        error = "" if HTTPStatus.OK <= status_code < HTTPStatus.MULTIPLE_CHOICES else f"It answered {status_code}."
    except ForbiddenDestinationError as forbidden:
        error = str(forbidden)
    except NoSecretError:
        error = "Its secret cannot be read, because SECRET_KEY has changed: rotate the secret."
    except (OSError, http.client.HTTPException) as failure:
        error = f"It did not answer: {type(failure).__name__}."
    return Outcome(status_code, round((time.monotonic() - began) * 1000), answer, error, retry_after)


def keys_of(endpoint: WebhookEndpoint) -> list[str]:
    """
    Return the signing secrets: the newest first, then the previous one while it is valid.

    Raises:
        NoSecretError: the newest cannot be read.
    """
    if not endpoint.secret:
        raise NoSecretError
    is_good = endpoint.previous_until is not None and endpoint.previous_until > timezone.now()
    return [endpoint.secret, endpoint.previous_secret] if is_good and endpoint.previous_secret else [endpoint.secret]


def _post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str, float]:
    parts = check_url(url)
    connection = open_connection(parts)
    cut = threading.Timer(DEADLINE, _cut, [connection.sock])
    cut.daemon = True
    cut.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, headers)
        response = connection.getresponse()
        answer = b""
        with suppress(OSError, http.client.HTTPException):  # The status alone says how it answered.
            answer = response.read1(MAX_ANSWER)
        text = answer.decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
        return response.status, text, _seconds(response.getheader("Retry-After"))
    finally:
        cut.cancel()
        connection.close()


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _seconds(text: str | None) -> float:
    """Return ``Retry-After`` in seconds; dates are ignored, and the backoff applies."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return 0.0
    return min(float(text), MAX_RETRY_AFTER)
