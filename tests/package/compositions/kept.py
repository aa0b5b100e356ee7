"""An app whose results django-celery-results keeps."""

import os

from celery import Celery

os.environ["DJANGO_SETTINGS_MODULE"] = "compositions.kept_settings"

app = Celery("kept", task_cls="celery_ledger:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
