"""The durable app with its tasks imported: the harness looks at them before the worker would have."""

import django

django.setup()

from proj import tasks  # noqa: E402
from proj.celery import app  # noqa: E402

__all__ = ["app", "tasks"]
