"""The shop's Celery app, and how its logs are written. Tasks are durable by :mod:`celery_ledger`."""

from worker.celery import app

__all__ = ["app"]
