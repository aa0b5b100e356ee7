"""Durable tasks that deliver webhooks: outside transactions, at least once, with a stable id."""

from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from celery import shared_task
from django.conf import settings
from django.db import transaction

from celery_ledger.desk import turns
from celery_ledger.faults import crash_point
from celery_ledger.patience import persist
from webhooks import log, places, sending
from webhooks.models import WebhookEndpoint

#: A delivery that has waited this long for its turn will not be woken by another.
LOST_AFTER: Final = timedelta(hours=1)


@shared_task(
    name="webhooks.tasks.deliver", label="Notify other systems", bind=True, transactional=False, retries="patient"
)
def deliver(self: Any, delivery_id: int) -> None:
    """
    Send one delivery. A second run sends the same body under the same id, or finds it delivered.

    One whose endpoint is busy waits for its turn without a task. A failed one is retried by the ``patient`` policy, or
    as late as the receiver asks; a delivery that is given up is in the log of deliveries, and is not a dead letter.
    """
    delivery = persist(lambda: places.enter(delivery_id))
    if delivery is None:
        return
    crash_point("webhooks.before_send")
    outcome, token = sending.send(delivery), uuid4()
    crash_point("webhooks.after_send")

    def record() -> bool:
        with transaction.atomic():
            again, turn = places.leave(delivery, outcome, token=token)
            for id in turn:
                deliver.delay(id)
            crash_point("webhooks.before_commit")
        return again

    is_to_come_back = persist(record)
    crash_point("webhooks.after_commit")
    if is_to_come_back:
        pause = max(outcome.retry_after, self.pause_after(delivery.tries))
        raise self.retry(countdown=pause, exc=sending.NotTakenError(outcome.error))


@shared_task(name="webhooks.tasks.tidy", queue="scheduled", transactional=False)
def tidy() -> int:
    """
    Wake deliveries that were left waiting, and delete settled ones after ``WEBHOOK_RETENTION_DAYS``; return how many.

    Also encrypts secrets that an earlier release stored in plain text. Repeatable.


    """
    WebhookEndpoint.seal_all()
    with transaction.atomic():
        for id in places.left_behind(older_than=LOST_AFTER):
            deliver.delay(id)
    return turns.take(tidy, log.prune(older_than=timedelta(days=settings.WEBHOOK_RETENTION_DAYS)))
