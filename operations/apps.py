"""What operators look at and decide about: the API below ``/api/ops/``, metrics, pages in the admin."""

from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "operations"
