"""The ASGI application that ``python manage.py serve`` runs."""

import asyncio
import os
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from http import HTTPStatus
from typing import Any, Final

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import re_path

from core.patience import SilenceWatch

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")

#: A Content-Length of more digits is not worth converting.
MAX_LENGTH_DIGITS: Final = 12


def refusal_of(scope: dict[str, Any]) -> HttpResponse | None:
    """Return the answer to a body that need not be read to be refused: packed, or declared to be too long."""
    from core.problems import problem_response  # It needs django.setup(), below.

    headers = dict(scope["headers"])
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        return problem_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body as it is, not packed.")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and (len(length) > MAX_LENGTH_DIGITS or int(length) > settings.MAX_BODY_BYTES):
        return problem_response(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have at most {settings.MAX_BODY_BYTES} bytes."
        )
    return None


class ThreadedASGIHandler(ASGIHandler):
    """
    Django's ASGI handler, with the whole synchronous part of a request in one step on a kept thread.

    Django's own moves between threads for every middleware and starts a new thread, and so a new database
    connection, for every request. Here the chain is synchronous from end to end, runs on one of
    ``WEB_THREADS`` threads, and each thread keeps its connection. Streams are still sent by the event loop.
    """

    def __init__(self) -> None:
        super(ASGIHandler, self).__init__()
        self.load_middleware(is_async=False)
        SilenceWatch(limit=settings.DATABASE_PATIENCE).start()
        self.threads = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="request")
        # They would look after the event loop's thread, which has no connection.
        request_started.disconnect(reset_queries)
        request_started.disconnect(close_old_connections)
        request_finished.disconnect(close_old_connections)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if refusal := refusal_of(scope):
            refusal["X-Request-ID"] = str(uuid.uuid4())
            await self.send_response(refusal, send)
            return
        await self.handle(scope, receive, send)

    def create_request(self, scope: Mapping[str, Any], body_file: Any) -> Any:
        """Make the request; say how long a body is that came in chunks, or it would be taken for none."""
        request, refusal = super().create_request(scope, body_file)
        if request is not None and "CONTENT_LENGTH" not in request.META:
            body_file.seek(0, os.SEEK_END)
            request.META["CONTENT_LENGTH"] = str(body_file.tell())
            body_file.seek(0)
        return request, refusal

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Have a thread answer the request."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, copy_context().run, self._answer, request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        reset_queries()
        close_old_connections()
        try:
            return self.get_response(request)
        finally:
            close_old_connections()


async def live(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer the server's word that it starts, and that it has stopped (ASGI's lifespan protocol)."""
    await receive()
    feed.close_with_the_process()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


django.setup()
from notifications.feed import feed  # noqa: E402 - It needs django.setup().
from notifications.streams import NotificationSocket, refuse  # noqa: E402 - It needs django.setup().

sockets: list[tuple[str, Any]] = [("^ws/notifications/$", NotificationSocket.as_asgi()), ("", refuse)]
application = ProtocolTypeRouter(
    {
        "lifespan": live,
        "http": ThreadedASGIHandler(),
        "websocket": URLRouter([re_path(pattern, application) for pattern, application in sockets]),
    }
)
