"""The ledger's rows under their old name, until the next release."""

from celery_ledger.models import DurableTask

__all__ = ["DurableTask"]
