import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")

# The second of the two lines: task_cls.
app = Celery("proj", task_cls="celery_ledger:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
