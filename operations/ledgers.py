"""Which of several databases a request is about: what its address names decides, or its parameter ``database``."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern

from celery_ledger import databases
from celery_ledger.desk import ledgers

PARAMETER = "database"


def in_its_database(pattern: URLPattern) -> URLPattern:
    """
    Let the view of ``pattern`` work on the database that has the task or the canvas in its address.

    Otherwise on the database that the parameter names, or the first one. Views do not see the parameter.
    """
    view: Callable[..., HttpResponse] = pattern.callback

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **named: Any) -> HttpResponse:
        said = request.GET.get(PARAMETER)
        try:
            alias = ledgers.chosen(said, task=named.get("task_id"), canvas=named.get("canvas_id"))
        except LookupError as error:
            raise Http404(str(error)) from None
        if said is not None:
            rest = request.GET.copy()
            del rest[PARAMETER]
            request.GET = rest  # type: ignore[assignment]
        with databases.using(alias):
            return view(request, *args, **named)

    pattern.callback = wrapped
    return pattern
