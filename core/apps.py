"""The composition root: settings, URLs, the API schema, and their checks. No other module imports it."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "core"
    label = "shopwire"  # The label "core" belongs to accounts, after its tables.

    def ready(self) -> None:
        """Register the checks, and the authentication scheme of the OpenAPI document."""
        from core import checks, schema  # noqa: F401 - They register themselves.
