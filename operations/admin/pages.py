"""What the pages of operations share."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse


class RateForm(forms.Form):
    per_second = forms.FloatField(required=False)


def to_the_millisecond(moment: Any) -> str:
    """Return a moment in UTC as it is shown; nothing for none."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3] if moment else ""


def page(request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
    """Return a page of the admin with its frame around it."""
    everywhere = {**admin.site.each_context(request), "flower_url": settings.FLOWER_URL}
    return TemplateResponse(request, template, everywhere | context)
