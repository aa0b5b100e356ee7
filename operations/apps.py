"""Operations: the API below ``/api/ops/``, metrics, and admin pages."""

from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "operations"
