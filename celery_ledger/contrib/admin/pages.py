"""Code shared by the pages of the desk."""

from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse


class ReadOnly:
    """A list without adding, changing or deleting."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RateForm(forms.Form):
    per_second = forms.FloatField(required=False)


def flower_url() -> str:
    """Return the URL of Flower from the setting ``FLOWER_URL``; empty: the desk has no link to it."""
    return str(getattr(settings, "FLOWER_URL", ""))


def page(desk: admin.ModelAdmin, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
    """Return a page of the desk inside the admin's layout."""
    request.current_app = desk.admin_site.name
    frame = {**desk.admin_site.each_context(request), "opts": desk.opts, "flower_url": flower_url()}
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
