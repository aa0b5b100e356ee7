"""The Celery app: ``celery -A worker worker``, ``celery -A worker beat``, ``celery -A worker flower``."""

import os

from celery import Celery

import worker.queues  # noqa: F401 - It connects itself.

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")

app = Celery("shopwire", task_cls="worker.task:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
