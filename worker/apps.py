"""The shop's Celery app and, for one release, the ledger's old tables, which are views."""

from django.apps import AppConfig


class WorkerConfig(AppConfig):
    name = "worker"
