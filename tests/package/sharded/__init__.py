"""A project whose ledger is in several databases; the variable ``SHARDS`` is Django's DATABASES, as JSON."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.package.sharded.settings")
app = Celery("sharded", task_cls="celery_ledger:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["tests.package.sharded"])
