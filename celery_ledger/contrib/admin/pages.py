"""Code shared by the pages of the desk."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse

from celery_ledger import databases
from celery_ledger.desk import ledgers


class ReadOnly:
    """A list without adding, changing or deleting; of several databases, it shows one at a time."""

    def own_urls(self) -> list[URLPattern]:
        """Return the URLs of pages that Django's admin does not have."""
        return []

    def get_urls(self) -> list[URLPattern]:
        found = [*self.own_urls(), *super().get_urls()]  # type: ignore[misc]
        for pattern in found:
            pattern.callback = in_its_database(pattern.callback)
        return found

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RateForm(forms.Form):
    per_second = forms.FloatField(required=False)


def in_its_database(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Let a view, and its template, work on the database that has what its address names; see :func:`database_of`."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        with databases.using(database_of(request, kwargs)):
            response = view(request, *args, **kwargs)
            if databases.are_several() and isinstance(response, TemplateResponse):
                response.render()
            return response

    return wrapped


def database_of(request: HttpRequest, named: Mapping[str, Any]) -> str:
    """
    Return the database that an address names, or that has the task or the canvas that it names; else the first one.

    Raises:
        Http404: it names a database without a ledger.
    """
    wanted = str(named.get("task_id") or named.get("object_id") or request.GET.get("q", "").strip())
    task = UUID(wanted) if is_uuid(wanted) else None
    try:
        return ledgers.chosen(request.GET.get("database"), task=task, canvas=named.get("canvas_id"))
    except LookupError as error:
        raise Http404(str(error)) from None


def page_address(desk: admin.ModelAdmin, name: str, *args: Any, query: Mapping[str, Any] | None = None) -> str:
    """Return the address of a page of the desk, for the database in use."""
    here = {"database": databases.current()} if databases.are_several() else {}
    where = reverse(f"admin:{name}", args=args, current_app=desk.admin_site.name)
    return f"{where}?{urlencode(asked)}" if (asked := {**here, **(query or {})}) else where


def which_database() -> dict[str, Any]:
    """Return what templates need to link to pages of the database in use, and to the other databases."""
    if not databases.are_several():
        return {}
    query = urlencode({"database": databases.current()})
    return {"database": databases.current(), "databases": databases.aliases(), "of_database": query}


def flower_url() -> str:
    """Return the URL of Flower from the setting ``FLOWER_URL``; empty: the desk has no link to it."""
    return str(getattr(settings, "FLOWER_URL", ""))


def page(desk: admin.ModelAdmin, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
    """Return a page of the desk inside the admin's layout."""
    request.current_app = desk.admin_site.name
    frame = {**desk.admin_site.each_context(request), "opts": desk.opts, "flower_url": flower_url()}
    frame |= which_database()
    if request.resolver_match and request.resolver_match.kwargs:  # What it names is in no other database.
        frame.pop("databases", None)
    return TemplateResponse(request, f"celery_ledger_admin/{template}", frame | context)


def is_uuid(text: str) -> bool:
    """Whether ``text`` may be the id of a task or a canvas."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def reason_in(request: HttpRequest) -> str:
    """Return the reason that the form of an action gives."""
    return str(request.POST.get("reason", "")).replace("\0", "")
