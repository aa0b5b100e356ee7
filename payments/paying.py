"""Payment by a customer: a durable task asks the provider once for each try."""

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from celery_ledger.context import working_on
from celery_ledger.faults import crash_point
from payments import refunds, tasks
from payments.models import DeclinedCharge, Payment, hold, new_reference
from store.models import Order

Status = Payment.Status


class NotPayable(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The order expired, was declined too often or was cancelled: it can no longer be paid."""


def ask(payment_id: int) -> Payment:
    """
    Request the charge, once, however often the customer asks; return the current payment.

    After a declined try this begins the next one, with a reference of its own. The earlier one is withdrawn, so that a
    provider that accepts it later charges nothing.

    Raises:
        NotPayable: the order no longer waits for payment, and is not paid.
    """
    with transaction.atomic():
        payment = hold(payment_id)
        if payment.status == Status.PENDING and payment.asked_at is None:
            order = Order.objects.get(pk=payment.order_id)
            if order.status != Order.Status.UNPAID or payment.expires_at <= timezone.now():
                raise NotPayable
            with working_on(subject=order.subject):
                if payment.declined_at is not None:
                    _begin_anew(payment, declined_at=payment.declined_at)
                payment.asked_at = timezone.now()
                payment.save(update_fields=["reference", "asked_at", "declined_at", "error"])
                tasks.charge.delay(payment.pk)
        elif payment.status == Status.FAILED:
            raise NotPayable
        crash_point("payments.before_asked")
    crash_point("payments.after_asked")
    return payment


def _begin_anew(payment: Payment, *, declined_at: datetime) -> None:
    declined = DeclinedCharge.objects.create(payment=payment, reference=payment.reference, declined_at=declined_at)
    refunds.void_declined.delay(declined.pk)
    payment.reference, payment.declined_at, payment.error = new_reference(), None, ""
