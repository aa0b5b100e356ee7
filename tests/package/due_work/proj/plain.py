"""The same tasks as plain Celery has them, with its default settings and with late acknowledgement."""

import os

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
django.setup()
from django.conf import settings  # noqa: E402
from proj.models import Effect  # noqa: E402
from proj.provider import send  # noqa: E402

app = Celery("plain", broker=settings.CELERY_BROKER_URL, backend=settings.CELERY_BROKER_URL, set_as_current=False)
app.conf.task_default_queue = "plain"
app.conf.broker_connection_retry_on_startup = True


@app.task(name="plain.record")
def record(what):
    Effect.objects.create(what=what)


@app.task(name="plain.record_late", acks_late=True, reject_on_worker_lost=True)
def record_late(what):
    Effect.objects.create(what=what)


@app.task(name="plain.notify")
def notify(what):
    send(what)
