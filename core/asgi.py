"""The ASGI application that ``python manage.py serve`` runs."""

import os
from typing import Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")


async def live(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Acknowledge the server's startup and shutdown (ASGI's lifespan protocol)."""
    await receive()
    feed.close_with_the_process()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


django.setup()
from notifications.feed import feed  # noqa: E402 - It needs django.setup().
from notifications.streams import NotificationSocket, refuse  # noqa: E402 - It needs django.setup().
from web.handler import ThreadedASGIHandler  # noqa: E402 - It needs django.setup().

sockets: list[tuple[str, Any]] = [("^ws/notifications/$", NotificationSocket.as_asgi()), ("", refuse)]
application = ProtocolTypeRouter(
    {
        "lifespan": live,
        "http": ThreadedASGIHandler(),
        "websocket": URLRouter([re_path(pattern, application) for pattern, application in sockets]),
    }
)
