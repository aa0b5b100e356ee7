"""Request ids: every response has one, the client's own if it is well-formed, and is counted."""

import logging
import re
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse

from celery_ledger.context import working_on
from web import http_counts
from web.clients import client_of
from web.request_counts import counts

logger = logging.getLogger("core.requests")
WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RequestIDMiddleware:
    """Sets ``X-Request-ID`` on the response, and passes request and user on to all the work it causes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        offered = request.headers.get("X-Request-ID", "")
        request_id = offered if WELL_FORMED.fullmatch(offered) else str(uuid.uuid4())
        count = counts.of_this_thread()
        count.started += 1
        began = time.perf_counter()
        try:
            with working_on(request_id=request_id, actor=lambda: user_of(request), client=lambda: client_of(request)):
                response = self.get_response(request)
                duration = time.perf_counter() - began
                self._log(request, response.status_code, duration)
            count.failed += response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        finally:
            count.finished += 1
        http_counts.count(request, response.status_code, duration)
        response["X-Request-ID"] = request_id
        return response

    def _log(self, request: HttpRequest, status: int, duration: float) -> None:
        """Log the response; the URL without its query, which may hold anything."""
        if logger.isEnabledFor(logging.INFO):
            data = {"method": request.method, "path": request.path, "status": status, "ms": round(duration * 1000, 1)}
            logger.info("request answered", extra={"data": data})


def user_of(request: HttpRequest) -> int | None:
    """
    Return the id of the signed-in user, as far as it is known.

    REST framework recognises a token's user later than Django recognises a session's, and sets it here too.
    """
    user = getattr(request, "user", None)
    return None if user is None else user.pk
