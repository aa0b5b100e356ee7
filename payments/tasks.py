"""Durable tasks that call the provider. The reference is the same at every attempt, so it charges once."""

from datetime import timedelta
from typing import Any, Final

from celery import shared_task
from django.utils import timezone

from celery_ledger.faults import crash_point
from celery_ledger.patience import persist
from payments import settling
from payments.models import Payment
from payments.provider import Result, provider

Status = Payment.Status
#: Seconds after which the provider is asked again about a charge that it did not know about.
ASK_AGAIN: Final = 60


class StillPendingError(Exception):
    """The provider has not decided yet."""


@shared_task(name="payments.tasks.charge", label="Take your payment", bind=True, transactional=False, retries="patient")
def charge(self: Any, payment_id: int) -> None:
    """
    Charge for an order whose customer pays, and place the order. A declined try ends here.

    A second run uses the same reference, and learns the outcome of the first. A provider that does not answer is
    asked again until the order expires; if it charged nevertheless, it gives the money back.
    """
    payment = persist(lambda: Payment.objects.select_related("order").filter(pk=payment_id).first())
    if payment is None or payment.status != Status.PENDING or payment.asked_at is None:
        return
    if payment.expires_at <= timezone.now() or payment.order.status != payment.order.Status.UNPAID:
        persist(lambda: settling.expire(payment_id))
        return
    crash_point("payments.before_charge")
    result = provider().charge(payment.charge)
    crash_point("payments.after_charge")
    persist(lambda: settling.settle(payment_id, payment.reference, result))
    crash_point("payments.after_commit")
    if result == Result.PENDING:
        raise self.retry(countdown=ASK_AGAIN, exc=StillPendingError("The provider has not decided yet."))


@shared_task(name="payments.tasks.expire", label="Wait for your payment")
def expire(payment_id: int) -> None:
    """Expire the order if it is not paid in time, and release its stock. Repeatable."""
    settling.expire(payment_id)


def due_by(minutes: int) -> Any:
    """Return until when an order made now is reserved for its payment."""
    return timezone.now() + timedelta(minutes=minutes)
