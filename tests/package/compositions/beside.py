"""The same tasks for two apps: one has our class as the default, the other Celery's."""

import json
import os

from celery import Celery, Task
from django.db import connection
from django.db.backends.signals import connection_created

import celery_ledger

opened = []


def count(sender, **said):
    opened.append(os.getpid())


connection_created.connect(count)


def write(path, value):
    with open(path, "a") as file:
        file.write(json.dumps(value) + "\n")


def connections_of_this_process():
    connection.ensure_connection()
    return opened.count(os.getpid())


def make(name, **options):  # noqa: C901 - they are many
    """Return an app; ``options`` name its class of tasks."""
    app = Celery(name, **options)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    os.makedirs("results", exist_ok=True)
    app.conf.result_backend = f"file://{os.getcwd()}/results"
    app.autodiscover_tasks()

    @app.task(name="beside.add", base=Task)
    def add(x, y):
        return x + y

    @app.task(name="beside.describe", bind=True, base=Task)
    def describe(self, *args, **kwargs):
        headers = self.request.headers or {}
        return {"args": args, "kwargs": kwargs, "colour": headers.get("colour"), "ignore": self.request.ignore_result}

    @app.task(name="beside.retried", bind=True, base=Task, max_retries=2)
    def retried(self):
        if self.request.retries < 2:
            raise self.retry(countdown=0.1)
        return self.request.retries

    @app.task(name="beside.fails", base=Task)
    def fails():
        raise OSError("It cannot be done.")

    @app.task(name="beside.not_durable", base=celery_ledger.Task, durable=False)
    def not_durable(x, y):
        return x * y

    @app.task(name="beside.plain_connections", base=celery_ledger.Task, durable=False)
    def plain_connections():
        return connections_of_this_process()

    @app.task(name="beside.foreign_connections", base=Task)
    def foreign_connections():
        return connections_of_this_process()

    @app.task(name="beside.durable", base=celery_ledger.Task)
    def durable(path, value=None):
        write(path, value or connections_of_this_process())

    @app.task(name="beside.durable_total", base=celery_ledger.Task)
    def durable_total(numbers):
        return sum(numbers)

    @app.task(name="beside.durable_inside", base=celery_ledger.Task, transactional=True)
    def durable_inside(path):
        write(path, connections_of_this_process())

    return app
