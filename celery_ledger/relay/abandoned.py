"""
Tasks that must not run twice and have lost their worker: they become dead letters.

A task declares this with ``acks_late=False``. Whether its effect happened is unknown. The relay's sweep calls this
before it brings back the rows that other workers left behind.
"""

from datetime import datetime

from celery import Celery
from django.db.models.functions import Now

from celery_ledger.databases import atomic, connection
from celery_ledger.errors import WorkerDiedError
from celery_ledger.models import DurableTask
from celery_ledger.rows import attempts, ledger, results
from celery_ledger.rows.results import Outcome
from celery_ledger.rows.wording import words_of

#: At most this many rows are processed in one sweep.
PORTION = 500


def bury_abandoned(app: Celery, *, since: datetime | None = None) -> int:
    """
    Turn rows of at-most-once tasks into dead letters if their lease has expired; return how many.

    ``since``: no lease that matters ends earlier.
    """
    names = [name for name, task in app.tasks.items() if getattr(task, "durable", False) and not task.acks_late]
    if not names:
        return 0
    running = ledger.leased(since).filter(status=DurableTask.Status.RUNNING, name__in=names)
    abandoned = running.filter(lease_until__lt=Now()).order_by("lease_until")
    skip = connection.features.has_select_for_update_skip_locked
    error = WorkerDiedError("the worker was lost, and the task must not run twice")
    buried = 0
    with atomic():
        locked = abandoned.select_for_update(skip_locked=skip).values_list("id", flat=True)
        for row in ledger.in_flight(list(locked[:PORTION])):
            if ledger.fail(row, words_of(error), dead=True, delay=0, counted=True):
                results.record([Outcome(row.id, results.FAILURE, error)], is_told=False)
                attempts.record_failure(row, words_of(error), "")
                buried += 1
    return buried
