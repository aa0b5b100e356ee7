"""An app whose pool is derived from one of green threads: as gevent's, which is not installed, says of itself."""

from celery import Celery
from celery.concurrency.thread import TaskPool


class GreenPool(TaskPool):
    __module__ = "celery.concurrency.gevent"


class OwnPool(GreenPool):
    """Its own module says nothing."""


app = Celery("green", task_cls="celery_ledger:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.worker_pool = "compositions.green:OwnPool"
app.autodiscover_tasks()
