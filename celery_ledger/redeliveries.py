"""The names of the task that resends a signal."""

#: What it is called, and what it was called before this was a package.
REDELIVERIES = ("celery_ledger.tasks.redeliver", "worker.tasks.redeliver")
