"""
Refunds: enqueued in the transaction of their cause, and requested by durable tasks.

The request uses the reference of the charge, so that the money goes back once, however often a task runs.
"""

from celery import shared_task
from django.utils import timezone

from celery_ledger.faults import crash_point
from celery_ledger.patience import persist
from payments.models import DeclinedCharge, Payment
from payments.provider import provider
from store.models import Order

Status = Payment.Status


def give_back(order: Order) -> None:
    """Enqueue the refund of a cancelled order, in the current transaction, which has locked the order."""
    changed = Payment.objects.filter(order=order, status=Status.PAID).update(status=Status.REFUND_DUE)
    if changed:
        refund.delay(order.payment.pk)


@shared_task(name="payments.tasks.refund", label="Return your payment", transactional=False, retries="patient")
def refund(payment_id: int) -> None:
    """Request a refund under the reference of the charge: once, however often this runs."""
    payment = persist(lambda: Payment.objects.filter(pk=payment_id, status=Status.REFUND_DUE).first())
    if payment is None:
        return
    provider().refund(payment.charge)
    crash_point("payments.after_refund")
    persist(lambda: _returned(payment_id))
    crash_point("payments.after_returned")


@shared_task(name="payments.tasks.void", transactional=False, retries="patient")
def void(payment_id: int) -> None:
    """Void a reference: the provider refunds any charge under it, and makes no more."""
    payment = persist(lambda: Payment.objects.filter(pk=payment_id).first())
    if payment is not None:
        provider().refund(payment.charge)
        crash_point("payments.after_void")


@shared_task(
    name="payments.tasks.void_declined",
    label="Withdraw the payment that was declined",
    transactional=False,
    retries="patient",
)
def void_declined(charge_id: int) -> None:
    """Void the reference of a declined try. Repeatable."""
    declined = persist(lambda: DeclinedCharge.objects.select_related("payment").filter(pk=charge_id).first())
    if declined is not None:
        provider().refund(declined.charge)
        crash_point("payments.after_void")


def _returned(payment_id: int) -> None:
    """Record that the money was refunded."""
    Payment.objects.filter(pk=payment_id, status=Status.REFUND_DUE).update(
        status=Status.REFUNDED, refunded_at=timezone.now()
    )
