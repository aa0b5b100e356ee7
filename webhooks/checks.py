"""Checks of the webhook settings for ``manage.py check --deploy``."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.security)
def check_destinations(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse, in production, webhooks to this machine."""
    if settings.DEBUG or not settings.WEBHOOKS_TO_LOCALHOST:
        return []
    return [
        Error(
            "WEBHOOKS_TO_LOCALHOST is on.",
            hint="Anyone who manages endpoints could reach services on this machine. Use it for development only.",
            id="webhooks.E001",
        )
    ]
