"""The class of every task: the package's, with its default options or with one that ``SUITE_TRANSACTIONAL`` says."""

import os

import celery_ledger


class Task(celery_ledger.Task):
    abstract = True
    transactional = bool(os.environ.get("SUITE_TRANSACTIONAL"))
