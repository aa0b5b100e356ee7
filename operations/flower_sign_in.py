"""
Single sign-on for Flower: it accepts the shop's session of any user whom the admin lets in.

Used by ``flowerconfig.py``. A browser sends the shop's cookie to Flower if both have the same host name, whatever
their ports. Without the cookie, or while the database is away, Flower asks for its password. Pages need the session
only; actions need the permissions that the desk requires for them.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlparse

from django.conf import settings
from django.contrib import admin
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from flower.views import BaseHandler
from flower.views.tasks import TasksDataTable

from celery_ledger.desk.permissions import CANCEL, STEER

logger = logging.getLogger(__name__)

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: The shop's middleware that identifies the user.
WHO_ASKS: Final = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
)
#: Seconds that Flower waits for the database before it asks for a password.
PATIENCE: Final = 3.0
#: Django refuses to use the database inside an event loop.
_thread: Final = ThreadPoolExecutor(1, "flower-sessions")


def let_in_by_session() -> None:
    """Make every page of Flower accept the shop's session, and ask for the password without one."""
    by_password = BaseHandler.get_current_user

    def get_current_user(handler: Any) -> Any:
        cookie = handler.get_cookie(settings.SESSION_COOKIE_NAME)
        only_looks = handler.request.method in SAFE_METHODS or isinstance(handler, TasksDataTable)
        by_password_now = handler.request.headers.get("Authorization")
        if cookie and not by_password_now and (only_looks or _is_of_its_own_pages(handler.request)):
            try:
                name = _thread.submit(_name_of, cookie, only_looks).result(PATIENCE)
            except Exception as error:  # noqa: BLE001 - the password is the way in that depends on nothing else
                logger.warning("A session cannot be checked now, so Flower asks for its password: %r", error)
            else:
                if name:
                    return name
        return by_password(handler)

    BaseHandler.get_current_user = get_current_user


def _name_of(cookie: str, only_looks: bool) -> str:
    """Return the name of the session's user; empty if the admin refuses them, or the action."""
    names = []

    def let_in(request: HttpRequest) -> HttpResponse:
        user: Any = request.user
        if admin.site.has_permission(request) and (only_looks or user.has_perms([STEER, CANCEL])):
            names.append(user.get_username())
        return HttpResponse()

    ask: Any = let_in
    for path in reversed(WHO_ASKS):
        if path in settings.MIDDLEWARE:
            ask = import_string(path)(ask)
    request = HttpRequest()
    request.COOKIES[settings.SESSION_COOKIE_NAME] = cookie
    close_old_connections()
    try:
        ask(request)
    finally:
        close_old_connections()
    return "".join(names)


def _is_of_its_own_pages(request: Any) -> bool:
    """Whether a request comes from a page of Flower, not from a different site."""
    if site := request.headers.get("Sec-Fetch-Site"):
        return bool(site == "same-origin")
    return bool(urlparse(request.headers.get("Origin", "")).netloc == request.host)
