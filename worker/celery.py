"""The Celery app: ``celery -A worker worker``, ``celery -A worker beat``, ``celery -A worker flower``."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")

app = Celery("shopwire", task_cls="worker.task:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add("worker.beating:HeartbeatStep")
app.steps["consumer"].add("worker.beating:LoopStep")


def import_tasks() -> None:
    """
    Import all modules that declare tasks, as a worker does when it starts.

    Celery's own way would set Django up once more, and with it every logger.
    """
    app.autodiscover_tasks(force=True)
    for module in app.loader.default_modules:
        app.loader.import_task_module(module)
