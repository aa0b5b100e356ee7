"""
Ordinary Celery tasks, made durable: the Celery app, the ledger, the relay and the consumer.

This package knows no app of the shop. Apps write ``@shared_task`` and ``.delay()`` as anywhere
else; what they import from here is small: ``worker.signals.DurableSignal`` to announce,
``worker.errors.PermanentError`` to give up, ``worker.audit`` to have promises checked, and
``worker.testing`` in tests.
"""

from worker.celery import app

__all__ = ["app"]
