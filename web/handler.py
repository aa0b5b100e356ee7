"""
Django's ASGI handler for the web process: persistent threads, limited bodies, and probes that never queue.

Imported after ``django.setup()``.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from web import health
from web.patience import LOOK_EVERY, SilenceWatch, part_with_the_dead, waiting_for
from web.problems import API_PREFIX, RETRY_AFTER, problem_response
from web.request_id import WELL_FORMED

#: A Content-Length with more digits is refused without converting it.
MAX_LENGTH_DIGITS: Final = 12
#: Answered on the event loop: this says whether the process is alive, regardless of its threads and its database.
LIVENESS: Final = "/health/live/"
#: Paths for monitoring, answered by threads of their own while all others are busy.
FOR_PROBES: Final = frozenset({"/health/ready/", "/metrics"})
PROBE_THREADS: Final = 2
#: Seconds after which a thread that waits for one answer from the database counts as unavailable.
SILENCE: Final = 3.0
BUSY: Final = "The shop is overloaded. Nothing was done; try again."


class Body:
    """
    A request's body, counted as it arrives: more than ``limit`` bytes are never stored.

    To be called instead of the server's ``receive``. Beyond the limit it reports that the client has disconnected, so
    that the reader releases what it has.
    """

    def __init__(self, receive: Any, limit: int) -> None:
        self.is_too_long = False
        self._receive = receive
        self._room = limit

    async def __call__(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._receive()
        self._room -= len(message.get("body", b""))
        if self._room < 0:
            self.is_too_long = True
            return {"type": "http.disconnect"}
        return message


def limit_of(scope: dict[str, Any]) -> int:
    """Return the size limit of a body: the API takes JSON, the admin uploads files."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if scope["path"].startswith(API_PREFIX) else settings.MAX_BODY_BYTES
    return int(limit)


def too_long(limit: int) -> HttpResponse:
    """Return the response to a body of more than ``limit`` bytes."""
    return problem_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have at most {limit} bytes.")


def refusal_of(scope: dict[str, Any]) -> HttpResponse | None:
    """Return the response to a body that is refused unread: compressed, or declared too long."""
    headers = dict(scope["headers"])
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        return problem_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Compressed request bodies are not supported.")
    length = headers.get(b"content-length", b"")
    limit = limit_of(scope)
    if length.isdigit() and (len(length) > MAX_LENGTH_DIGITS or int(length) > limit):
        return too_long(limit)
    return None


def named(response: HttpResponse, offered: str) -> HttpResponse:
    """Set the client's request id on ``response``, if it is well-formed."""
    response["X-Request-ID"] = offered if WELL_FORMED.fullmatch(offered) else str(uuid.uuid4())
    return response


class ThreadedASGIHandler(ASGIHandler):
    """
    Django's ASGI handler, with the whole synchronous part of a request in one step on a persistent thread.

    Django's own moves between threads for every middleware and starts a new thread, and so a new database
    connection, for every request. Here the chain is synchronous from end to end, runs on one of ``WEB_THREADS``
    threads, and each thread keeps its connection. Streams are still sent from the event loop.
    """

    def __init__(self) -> None:
        super(ASGIHandler, self).__init__()
        self.load_middleware(is_async=False)
        SilenceWatch(limit=settings.DATABASE_PATIENCE).start()
        self.threads = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="request")
        self.probe_threads = ThreadPoolExecutor(PROBE_THREADS, thread_name_prefix="probe")
        # They would act on the event loop's thread, which has no connection.
        request_started.disconnect(reset_queries)
        request_started.disconnect(close_old_connections)
        request_finished.disconnect(close_old_connections)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == LIVENESS and scope["method"] in {"GET", "HEAD"}:
            await self._answer_here(scope, health.alive(), send)
            return
        if refusal := refusal_of(scope):
            await self._answer_here(scope, refusal, send)
            return
        limit = limit_of(scope)
        body = Body(receive, limit)
        await self.handle(scope, body, send)
        if body.is_too_long:
            await self._answer_here(scope, too_long(limit), send)

    async def _answer_here(self, scope: dict[str, Any], response: HttpResponse, send: Any) -> None:
        """Answer requests that need no thread."""
        offered = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin1")
        await self.send_response(named(response, offered), send)

    def create_request(self, scope: Mapping[str, Any], body_file: Any) -> Any:
        """Create the request; set the length of a chunked body, which would otherwise count as empty."""
        request, refusal = super().create_request(scope, body_file)
        if request is not None and "CONTENT_LENGTH" not in request.META:
            body_file.seek(0, os.SEEK_END)
            request.META["CONTENT_LENGTH"] = str(body_file.tell())
            body_file.seek(0)
        return request, refusal

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """
        Let a thread answer the request; if none is free within ``REQUEST_PATIENCE`` seconds, answer 503.

        This happens at once if every thread waits for a database that confirms nothing, because another thread would
        only wait too.
        """
        threads = self.probe_threads if request.path_info in FOR_PROBES else self.threads
        work = threads.submit(copy_context().run, self._answer, request)
        answer = asyncio.wrap_future(work)
        try:
            deadline = time.monotonic() + settings.REQUEST_PATIENCE
            while not answer.done() and (left := deadline - time.monotonic()) > 0:
                begun = work.running() or work.done()
                await asyncio.wait({answer}, timeout=left if begun else min(left, LOOK_EVERY))
                if not begun and waiting_for(SILENCE) >= settings.WEB_THREADS:
                    break
        except asyncio.CancelledError:  # The client has disconnected.
            work.cancel()
            raise
        if work.cancel():  # The answer had not begun.
            busy = problem_response(HTTPStatus.SERVICE_UNAVAILABLE, BUSY, wait=RETRY_AFTER)
            return named(busy, request.headers.get("X-Request-ID", ""))
        return await answer

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        reset_queries()
        close_old_connections()
        part_with_the_dead()
        try:
            return self.get_response(request)
        finally:
            close_old_connections()
