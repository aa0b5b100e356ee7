"""
Django's own tasks, kept in the ledger: ``django.tasks`` from Django 6.0 on, and its backport ``django-tasks``.

``TASKS = {"default": {"BACKEND": "celery_ledger.contrib.django_tasks.LedgerBackend"}}``. A task that is enqueued is a
row of the caller's transaction, and is run by the project's Celery workers.
"""

from celery_ledger.contrib.django_tasks.backend import LedgerBackend
from celery_ledger.contrib.django_tasks.definition import task

__all__ = ["LedgerBackend", "task"]
