"""The base class of the shop's tasks: transactional by default; any error is retried."""

from celery_ledger.retries import BRISK
from celery_ledger.task import Task as LedgerTask


class Task(LedgerTask):
    """A durable task of the shop."""

    abstract = True
    transactional = True
    retries: str | None = BRISK
    #: The ledger keeps results; CELERY_TASK_IGNORE_RESULT is for what Celery itself would store.
    ignore_result = False
