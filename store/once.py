"""
``@once()``: idempotent POSTs by ``Idempotency-Key``, with the checkout's contract.

What the view writes and its answer under the key are one transaction. A view that refuses leaves the key free, and what
it wrote is kept, as it would be without a key: a wrong password is counted. Visitors who are not signed in have
separate keys for each address.
"""

import hashlib
import json
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.db import transaction
from django.utils.crypto import salted_hmac
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from celery_ledger.faults import crash_point
from store import idempotency
from store.contention import persist
from store.idempotency import Answer, NamedRequest
from store.refusals import KeyReused

IDEMPOTENCY_KEY: Final = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description=(
        "1 to 255 printable ASCII characters, preferably a random UUID. Repeating a request with the same key and "
        "body within 24 hours returns the first response, with `Idempotent-Replayed: true`, and creates nothing."
    ),
)
REPLAYED: Final = OpenApiParameter(
    "Idempotent-Replayed",
    str,
    OpenApiParameter.HEADER,
    response=[200, 201, 202],
    enum=["true"],
    description="Present if this is the response to an earlier request with the same key.",
)
View = Callable[..., Response]


def once(*, seal: Callable[[str], str] = str, unseal: Callable[[str], str] = str) -> Callable[[View], View]:
    """
    Make a view's method accept an ``Idempotency-Key``, also in the OpenAPI document.

    A response that contains a secret is stored in the form returned by ``seal``, and repeated in the form returned by
    ``unseal``.
    """

    def decorate(make: View) -> View:
        @wraps(make)
        def answer(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
            key = key_of(request)
            if key is None:
                return make(view, request, *args, **kwargs)
            named = _name(request, key)

            def attempt() -> Response | APIException:
                with transaction.atomic():
                    if known := idempotency.recall(named):
                        return _replay(known, unseal)
                    try:
                        response = make(view, request, *args, **kwargs)
                    except APIException as refusal:
                        return refusal
                    if status.is_success(response.status_code):
                        body = JSONRenderer().render(response.data).decode() or "null"
                        idempotency.remember(named, Answer(response.status_code, seal(body)))
                    crash_point("once.before_commit")
                crash_point("once.after_commit")
                return response

            answered = persist(attempt)
            if isinstance(answered, APIException):
                raise answered
            return answered

        return extend_schema(parameters=[IDEMPOTENCY_KEY, REPLAYED])(answer)

    return decorate


def key_of(request: Request) -> str | None:
    """
    Return a request's idempotency key.

    Raises:
        ParseError: it is malformed.
    """
    key: str | None = request.headers.get("Idempotency-Key")
    if key is not None and not idempotency.WELL_FORMED.fullmatch(key):
        raise ParseError("Idempotency-Key must be 1 to 255 printable ASCII characters.")
    return key


def _replay(known: Answer, unseal: Callable[[str], str]) -> Response:
    body = unseal(known.body)
    if not body:
        raise KeyReused("This Idempotency-Key was used, and its response can no longer be read. Use a new key.")
    return Response(json.loads(body), status=known.status_code, headers={"Idempotent-Replayed": "true"})


def _name(request: Request, key: str) -> NamedRequest:
    """Fingerprint a request by user or address. The hash is keyed, because the body may contain a password."""
    said = json.dumps([request.method, request.path, request.data], sort_keys=True)
    fingerprint = salted_hmac("store.once", said, algorithm="sha256").hexdigest()
    if request.user.is_authenticated:
        return NamedRequest(request.user.pk, key, fingerprint)
    address = str(BaseThrottle().get_ident(request))
    return NamedRequest(None, key, fingerprint, visitor=hashlib.sha256(address.encode()).hexdigest())
