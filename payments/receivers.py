"""Receivers for orders, connected in apps.py; they run in the transaction that sent the signal."""

from typing import Any

from django.conf import settings

from celery_ledger.context import working_on
from payments import refunds, tasks
from payments.models import Payment
from store.models import Order


def wait_for_payment(sender: object, order: Order, **kwargs: Any) -> None:
    """An order waits for its payment: enqueue its expiry."""
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
    """An order has expired: end its payment too, unless the payment caused it."""
    for payment in Payment.objects.filter(order=order, status=Payment.Status.PENDING):
        with working_on(subject=payment.subject):
            tasks.expire.delay(payment.pk)


def return_payment(sender: object, order: Order, **kwargs: Any) -> None:
    """An order is cancelled: refund it if it was paid."""
    refunds.give_back(order)
