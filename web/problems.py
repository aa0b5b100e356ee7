"""
Errors as RFC 9457 problem documents, for everything under ``/api/``.

REST framework's errors come through :func:`answer_problem`; what fails outside of it (no such address, a
wrong host, a crash) is turned into a problem document by :class:`ProblemMiddleware`, so that a client
meets one kind of error, with DEBUG or without.
"""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.defaults import server_error
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.exceptions import PermissionDenied as Forbidden
from rest_framework.response import Response

from web.away import NOTHING_DONE, is_away, what_was_done

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
API_PREFIX = "/api/"
#: Seconds after which a client may try again when the database did not answer.
RETRY_AFTER = 2


class DatabaseAway(APIException):
    """The database did not answer in time, or refused."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = NOTHING_DONE
    wait = RETRY_AFTER


def problem(
    status: int, detail: str = "", *, name: str | None = None, errors: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """
    Return a problem document.

    ``name`` is set where a client may act on more than the status; the document's type ends with it.
    """
    document: dict[str, Any] = {
        "type": f"urn:shopwire:problem:{name}" if name else "about:blank",
        "title": name.replace("-", " ").capitalize() if name else HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail or HTTPStatus(status).description,
    }
    if errors:
        document["errors"] = errors
    return document


def answer_problem(exception: Exception, context: dict[str, Any]) -> Response | None:
    """Return the problem document for an error of a REST framework view; None for a bug in our code."""
    if isinstance(exception, Http404):
        exception = NotFound()
    elif isinstance(exception, PermissionDenied):
        exception = Forbidden()
    elif is_away(exception):
        logger.error("The database failed a request: %s", exception, exc_info=exception)
        exception = DatabaseAway(what_was_done(exception, context["request"].method))
    if not isinstance(exception, APIException):
        return None
    headers = {}
    if challenge := getattr(exception, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if (wait := getattr(exception, "wait", None)) is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    if isinstance(exception, ValidationError):
        detail, errors = "The request has fields that are missing or wrong.", list(field_errors(exception.detail))
    else:
        told: Any = exception.detail
        detail = str(told.get("detail", "")) if isinstance(told, dict) else str(told)
        errors = getattr(exception, "errors", [])
    document = problem(exception.status_code, detail, name=getattr(exception, "problem", None), errors=errors)
    return Response(document, status=exception.status_code, headers=headers, content_type=CONTENT_TYPE)


def field_errors(detail: Any, pointer: str = "") -> Iterator[dict[str, str]]:
    """Yield ``{pointer, detail}`` for each error, with an RFC 6901 pointer into the request's body."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            step = "" if name == "non_field_errors" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from field_errors(inner, pointer + step)
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            yield from field_errors(inner, f"{pointer}/{index}" if isinstance(inner, dict | list) else pointer)
    else:
        yield {"pointer": pointer, "detail": str(detail)}


class ProblemMiddleware:
    """Turns every error under ``/api/`` that is not a problem document into one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(API_PREFIX):
            return self.get_response(request)
        if "%00" in request.META.get("QUERY_STRING", ""):
            return problem_response(HTTPStatus.BAD_REQUEST, "The query contains a NUL character.")
        response = self.get_response(request)
        if response.status_code >= HTTPStatus.BAD_REQUEST and not response.get("Content-Type", "").startswith(
            CONTENT_TYPE
        ):
            replace_with_problem(response)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Report a lost database in a view outside REST framework, instead of a crash."""
        return answer_away(request, exception) if is_away(exception) else None


def answer_away(request: HttpRequest, error: BaseException) -> HttpResponse:
    """Answer a request that failed because of the database, for API clients or people."""
    logger.error("The database failed a request: %s", error, exc_info=error)
    detail = what_was_done(error, request.method)
    if request.path_info.startswith(API_PREFIX):
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, detail, wait=RETRY_AFTER)
    headers = {"Retry-After": str(RETRY_AFTER)}
    return HttpResponse(
        detail, status=HTTPStatus.SERVICE_UNAVAILABLE, content_type="text/plain; charset=utf-8", headers=headers
    )


def answer_crash(request: HttpRequest) -> HttpResponseBase:
    """Answer an exception of a view or a middleware, as ``handler500``: a crash, unless the database was away."""
    error = sys.exc_info()[1]
    if error is not None and is_away(error):
        return answer_away(request, error)
    return server_error(request)


def problem_response(status: int, detail: str = "", *, wait: int | None = None) -> HttpResponse:
    """Return a problem document as a plain Django response."""
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return HttpResponse(json.dumps(problem(status, detail)), status=status, content_type=CONTENT_TYPE, headers=headers)


def replace_with_problem(response: HttpResponseBase) -> None:
    """Replace ``response``'s body with a problem document; its other headers stay."""
    if not isinstance(response, HttpResponse):
        return
    response.content = json.dumps(problem(response.status_code)).encode()
    response["Content-Type"] = CONTENT_TYPE
    if response.has_header("Content-Length"):
        response["Content-Length"] = str(len(response.content))
