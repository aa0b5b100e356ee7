"""An app that lists its modules instead of calling ``autodiscover_tasks``."""

from celery import Celery

app = Celery("listed", task_cls="celery_ledger:Task", include=["habits.answers", "habits.tasks"])
app.config_from_object("django.conf:settings", namespace="CELERY")
