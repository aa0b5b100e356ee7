"""The shop's Celery app; until the release after this, also the old tables of the ledger, which are views."""

from django.apps import AppConfig


class WorkerConfig(AppConfig):
    name = "worker"
