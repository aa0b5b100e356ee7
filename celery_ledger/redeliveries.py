"""The names of the task that resends a signal."""

#: Its name, and its name before this was a package.
REDELIVERIES = ("celery_ledger.tasks.redeliver", "worker.tasks.redeliver")
