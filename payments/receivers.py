"""What payments do about orders. Connected in apps.py; part of the transaction that caused them."""

from typing import Any

from django.conf import settings

from celery_ledger.context import working_on
from payments import refunds, tasks
from payments.models import Payment
from store.models import Order


def wait_for_payment(sender: object, order: Order, **kwargs: Any) -> None:
    """An order waits for its payment: have it let go if it is not paid in time."""
    payment, is_new = Payment.objects.get_or_create(
        order=order,
        defaults={
            "amount": order.total,
            "currency": order.currency,
            "expires_at": tasks.due_by(settings.PAYMENT_MINUTES),
        },
    )
    if is_new:
        with working_on(subject=payment.subject):
            tasks.expire.apply_async((payment.pk,), eta=payment.expires_at)


def end_payment(sender: object, order: Order, **kwargs: Any) -> None:
    """An order has expired: have its payment end too, if it was not that which ended the order."""
    for payment in Payment.objects.filter(order=order, status=Payment.Status.PENDING):
        with working_on(subject=payment.subject):
            tasks.expire.delay(payment.pk)


def return_payment(sender: object, order: Order, **kwargs: Any) -> None:
    """An order is cancelled: have its money given back, if it was paid."""
    refunds.give_back(order)
