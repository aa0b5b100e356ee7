"""The shop's Celery app, and its logging. Tasks are durable by :mod:`celery_ledger`."""

from worker.celery import app

__all__ = ["app"]
