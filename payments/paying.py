"""A customer pays: the provider is asked once, by a durable task."""

from django.db import transaction
from django.utils import timezone

from celery_ledger.context import working_on
from celery_ledger.faults import crash_point
from payments import tasks
from payments.models import Payment, hold
from store.models import Order

Status = Payment.Status


class NotPayable(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The order was not paid in time, was declined or taken back: nothing is taken for it any more."""


def ask(payment_id: int) -> Payment:
    """
    Have the provider asked for the money, once, however often a customer says so; return the payment as it is now.

    Raises:
        NotPayable: the order waits no more, and is not paid.
    """
    with transaction.atomic():
        payment = hold(payment_id)
        if payment.status == Status.PENDING and payment.asked_at is None:
            order = Order.objects.get(pk=payment.order_id)
            if order.status != Order.Status.UNPAID or payment.expires_at <= timezone.now():
                raise NotPayable
            payment.asked_at = timezone.now()
            payment.save(update_fields=["asked_at"])
            with working_on(subject=order.subject):
                tasks.charge.delay(payment.pk)
        elif payment.status == Status.FAILED:
            raise NotPayable
        crash_point("payments.before_asked")
    crash_point("payments.after_asked")
    return payment
