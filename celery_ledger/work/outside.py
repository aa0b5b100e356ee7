"""
Rows whose effects are outside the database: claimed under a lease, run in no transaction, recorded with patience.

What remains is the moment between an effect and its record, in which a crash causes a second run.
"""

import logging
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError, transaction

from celery_ledger import conf
from celery_ledger.faults import crash_point
from celery_ledger.patience import persist
from celery_ledger.rows import ledger, results
from celery_ledger.work import bodies
from celery_ledger.work.keeper import LeaseKeeper
from celery_ledger.work.leaving import UnknownTaskError, leave
from celery_ledger.work.limits import limits_of
from celery_ledger.work.runnable import Runnable
from celery_ledger.work.running import Tally, limit_of, outcome_of, task_named
from celery_ledger.work.telling import as_current

logger = logging.getLogger(__name__)


def run(task: Runnable, id: UUID, tally: Tally) -> None:
    """Claim one row under a lease, run its body outside any transaction, record what came of it."""
    lease = conf.RUNNING_LEASE.value
    try:
        row = ledger.start(id, lease=lease, limit_of=limit_of(task))
    except ledger.AttemptsUsedUpError as error:
        tally.fail(task.app.tasks[error.row.name], error.row, error, counted=True)
        return
    except UnknownTaskError as error:
        leave([id], str(error))
        return
    if row is None:
        return
    task = task_named(task, row.name)
    try:
        crash_point("consumer.before_effect")
        telling = tally.telling(task, row)
        with LeaseKeeper(row, lease), as_current([telling]), limits_of(row):
            value = bodies.run(task, telling.request, *row.args, **row.kwargs)
        crash_point("consumer.after_effect")
    except Exception as error:  # noqa: BLE001 - whatever it was, the ledger records it
        tally.fail(task, row, error, counted=True)
    else:
        if persist(lambda: _finish(task, row, value)):
            tally.succeed(task, row, value)
        else:
            logger.warning("%s %s succeeded, but it was cancelled or taken over meanwhile.", row.name, row.id)


def _finish(task: Runnable, row: ledger.Started, value: Any) -> bool:
    """Record a success with its result; without it, where that cannot be kept: the effect has happened."""
    try:
        with transaction.atomic():
            if not ledger.finish(row):
                return False
            results.record([outcome_of(task, row, value)])
            return True
    except (OperationalError, InterfaceError):
        raise
    except DatabaseError:
        logger.exception("The result of %s %s cannot be kept; it is done all the same.", row.name, row.id)
        return ledger.finish(row)
