"""An app with a result backend of its own, beside its broker."""

from celery import Celery

app = Celery("stored", task_cls="celery_ledger:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.result_backend = app.conf.broker_url
app.conf.result_extended = True
app.conf.result_expires = 600
app.autodiscover_tasks()
