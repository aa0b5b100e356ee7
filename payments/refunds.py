"""
Money on its way back: enqueued with the reason for it, and asked for by durable tasks.

The provider is asked under the reference of the charge, so that it goes back once, however often a task runs.
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
    """Have the money of an order that is cancelled given back, in the current transaction, which holds the order."""
    changed = Payment.objects.filter(order=order, status=Status.PAID).update(status=Status.REFUND_DUE)
    if changed:
        refund.delay(order.payment.pk)


@shared_task(name="payments.tasks.refund", label="Return your payment", transactional=False, retries="patient")
def refund(payment_id: int) -> None:
    """Have the provider give money back, under the reference of the charge: once, however often this runs."""
    payment = persist(lambda: Payment.objects.filter(pk=payment_id, status=Status.REFUND_DUE).first())
    if payment is None:
        return
    provider().refund(payment.charge)
    crash_point("payments.after_refund")
    persist(lambda: _returned(payment_id))
    crash_point("payments.after_returned")


@shared_task(name="payments.tasks.void", transactional=False, retries="patient")
def void(payment_id: int) -> None:
    """Tell the provider that nothing is wanted under a reference: what it took goes back, and it takes nothing more."""
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
    """Tell the provider that nothing is wanted any more under the reference of a try that it declined. Repeatable."""
    declined = persist(lambda: DeclinedCharge.objects.select_related("payment").filter(pk=charge_id).first())
    if declined is not None:
        provider().refund(declined.charge)
        crash_point("payments.after_void")


def _returned(payment_id: int) -> None:
    """Note that the money went back."""
    Payment.objects.filter(pk=payment_id, status=Status.REFUND_DUE).update(
        status=Status.REFUNDED, refunded_at=timezone.now()
    )
