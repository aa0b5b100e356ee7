"""Checks of the payment settings for ``manage.py check``."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.security)
def check_provider(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse, in production, a provider without TLS."""
    if settings.DEBUG or not settings.PAYMENT_URL or settings.PAYMENT_URL.startswith("https://"):
        return []
    return [
        Error(
            "PAYMENT_URL does not begin with https://.",
            hint="An attacker between the shop and the provider could report an order as paid.",
            id="payments.E001",
        )
    ]
