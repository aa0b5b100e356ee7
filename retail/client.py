"""A patient HTTP client for the shop, which knows what may be repeated."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between the tries of one call
GATEWAY_ERRORS = frozenset({502, 503, 504})


class GaveUpError(Exception):
    """The shop did not answer within the time limit, or the replay was stopped."""


class AnswerLostError(Exception):
    """It is unknown whether the shop carried out the request."""


class UnexpectedAnswerError(Exception):
    """The shop's response is not what was expected."""

    def __init__(self, response: httpx.Response) -> None:
        body = read_object(response)
        told = body.get("detail") or body.get("title") or " ".join(response.text[:200].split())
        errors = f" {body['errors']}" if body.get("errors") else ""
        super().__init__(f"{response.request.method} {response.request.url.path}: {told}{errors}"[:500])
        self.status = response.status_code


@dataclass(slots=True)
class Meter:
    """Measurements of all clients. Appending to lists is safe without a lock."""

    retries: list[str] = field(default_factory=list)
    carts_rebuilt: list[str] = field(default_factory=list)
    replayed_answers: list[str] = field(default_factory=list)
    checkout_seconds: list[float] = field(default_factory=list)
    payments: Counter[str] = field(default_factory=Counter)


class Shop:
    """A client's access to the shop; each thread has its own, with one connection."""

    def __init__(self, url: str, *, patience: float, timeout: float, stop: threading.Event, meter: Meter) -> None:
        self.patience = patience
        self.stop = stop
        self.meter = meter
        self.client = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)),
            trust_env=False,  # The environment's proxy is not meant for a local shop.
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        json: object = None,
        repeatable: bool = True,
        busy_means_wait: bool = False,
    ) -> httpx.Response:
        """
        Return the shop's response, with retries for up to ``patience`` seconds.

        A missing connection or response, 502, 503, 504 and 429 are retried. With ``busy_means_wait``, so is a 409 that
        names no errors: the same request is still running.

        Raises:
            AnswerLostError: the call is not ``repeatable``, and may or may not have been carried out.
            GaveUpError: the time limit has passed, or the replay was stopped.
        """
        deadline = time.monotonic() + self.patience
        pause = FIRST_PAUSE
        while True:
            retry_after = 0.0
            try:
                response = self.client.request(method, path, headers=dict(headers), json=json)
            except httpx.TransportError as error:
                cause = _cause_of(error)
                in_doubt = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            else:
                if not _asks_to_come_back(response, busy_means_wait=busy_means_wait):
                    return response
                cause = f"status {response.status_code}"
                in_doubt = response.status_code in GATEWAY_ERRORS
                retry_after = _read_retry_after(response)
            self.meter.retries.append(cause)
            if in_doubt and not repeatable:
                raise AnswerLostError(cause)
            wait = max(pause, retry_after)
            if time.monotonic() + wait > deadline:
                raise GaveUpError(f"{method} {path}: {cause}, for {self.patience:g} s")
            if self.stop.wait(wait):
                raise GaveUpError(f"{method} {path}: {cause}, until the replay was stopped")
            pause = min(pause * 2, LONGEST_PAUSE)

    def pages(self, path: str, *, headers: Mapping[str, str]) -> Iterator[Any]:
        """Yield every result of a paginated list."""
        next_path: str | None = path
        while next_path:
            page = read_object(expect(self.call("GET", next_path, headers=headers), 200), "results", "next")
            yield from page["results"]
            # Only the path: a token is never sent to a different server, whatever the link says.
            link = urlsplit(page["next"] or "")
            next_path = f"{link.path}?{link.query}" if link.path else None


def expect(response: httpx.Response, *statuses: int) -> httpx.Response:
    """Return ``response`` if its status is one of ``statuses``; raise UnexpectedAnswerError otherwise."""
    if response.status_code not in statuses:
        raise UnexpectedAnswerError(response)
    return response


def read_object(response: httpx.Response, *names: str) -> dict[str, Any]:
    """
    Return the JSON object in ``response``, or an empty one.

    Raises:
        UnexpectedAnswerError: it lacks one of ``names``.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {}
    if any(name not in body for name in names):
        raise UnexpectedAnswerError(response)
    return body


def _cause_of(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "no connection"
    return "no answer in time" if isinstance(error, httpx.TimeoutException) else "connection lost"


def _asks_to_come_back(response: httpx.Response, *, busy_means_wait: bool) -> bool:
    if response.status_code == 409:
        return busy_means_wait and not read_object(response).get("errors")
    return response.status_code == 429 or response.status_code in GATEWAY_ERRORS


def _read_retry_after(response: httpx.Response) -> float:
    told = response.headers.get("Retry-After", "")
    return float(told) if told.isascii() and told.isdigit() and len(told) < 6 else 0.0
