"""
Throttling of expensive actions by client: sign-in, registration, checkout.

Counted in the default cache, which is this process's memory, because the shop takes orders even if every other service
is down. Each web process counts separately, so several processes together allow several times the rate.
"""

import hashlib
import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from web.clients import client_of

if TYPE_CHECKING:
    from rest_framework.views import APIView  # It reads the settings that name this module.


class ScopedThrottle(BaseThrottle):
    """
    Limits requests per user or address to views with one or more ``throttle_scope``.

    Rates are in ``settings.THROTTLE_RATES``: requests and seconds by scope, None for no limit. Each request is one
    atomic addition, so that simultaneous requests are all counted.
    """

    def __init__(self) -> None:
        self.seconds_left = 0.0

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Count the request and return whether it is within the rate."""
        scopes = getattr(view, "throttle_scope", None) or ()
        scopes = (scopes,) if isinstance(scopes, str) else scopes
        return all(self._is_within(settings.THROTTLE_RATES[scope], scope, request) for scope in scopes)

    def _is_within(self, rate: tuple[int, int] | None, scope: str, request: Request) -> bool:
        if rate is None:
            return True
        limit, seconds = rate
        window, passed = divmod(time.time(), seconds)
        self.seconds_left = seconds - passed
        client = f"user {request.user.pk}" if request.user.is_authenticated else f"address {client_of(request)}"
        key = hashlib.sha256(f"{scope} {window} {client}".encode()).hexdigest()
        if cache.add(key, 1, timeout=seconds):
            return True
        try:
            return bool(cache.incr(key) <= limit)
        except ValueError:  # The entry was dropped between the two calls: the window ended, or the cache was full.
            return True

    def wait(self) -> float:
        """Return the seconds until the next window starts."""
        return self.seconds_left
