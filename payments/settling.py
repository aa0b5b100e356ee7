"""
The effects of payment results on orders, from any source and in any number.

Each change is one transaction that locks the payment's row and then the order's. It promises that a payment places its
order once; that the stock is either kept or returned, once; and that money for a closed order is refunded, through
:mod:`payments.refunds`.
"""

import logging
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from celery_ledger.faults import crash_point
from payments import refunds
from payments.models import DeclinedCharge, Payment, PaymentCallback, hold
from payments.provider import Result
from store.models import Order
from store.placing import let_go, place

logger = logging.getLogger(__name__)
Status = Payment.Status
#: How often the payment of an order may be declined. This limits the testing of stolen cards.
MOST_TRIES: Final = 10


class WrongAmount(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The provider's amount differs from the order's total."""


def settle(payment_id: int, reference: UUID, result: Result) -> None:
    """Apply the provider's result of a payment attempt. Repeatable, and in any order."""
    with transaction.atomic():
        _settle(hold(payment_id), reference, result)


def take_callback(message_id: str, *, reference: UUID, result: Result, amount: Decimal, currency: str) -> None:
    """
    Process an authentic message from the provider, once for each id.

    Raises:
        Payment.DoesNotExist: there is no payment with that reference.
        WrongAmount: the message has a different amount.
    """
    with transaction.atomic():
        known = Q(reference=reference) | Q(declined__reference=reference)
        payment = hold(Payment.objects.filter(known).values_list("pk", flat=True).distinct().get())
        if (payment.amount, payment.currency) != (amount, currency):
            raise WrongAmount
        _, is_new = PaymentCallback.objects.get_or_create(
            message_id=message_id, defaults={"payment": payment, "result": result}
        )
        if is_new:
            _settle(payment, reference, result)


def expire(payment_id: int) -> None:
    """
    Expire an order that was not paid in time or was cancelled. A paid order is not changed.

    It may be unknown whether the provider has charged, so the provider is told that the charge is withdrawn.
    """
    with transaction.atomic():
        payment = hold(payment_id)
        is_late = payment.expires_at <= timezone.now()
        is_wanted = Order.objects.filter(pk=payment.order_id, status=Order.Status.UNPAID).exists()
        if payment.status == Status.PENDING and (is_late or not is_wanted):
            _fail(payment, "It was not paid in time." if is_late else "The order was cancelled.")
            if payment.asked_at or payment.declined_at:
                refunds.void.delay(payment.pk)
            crash_point("payments.before_let_go")


def _settle(payment: Payment, reference: UUID, result: Result) -> None:
    if reference != payment.reference:
        if result == Result.PAID:  # Another try has begun since: this one does not pay for the order.
            refunds.void_declined.delay(DeclinedCharge.objects.values_list("pk", flat=True).get(reference=reference))
    elif result == Result.DECLINED and payment.status == Status.PENDING:
        _decline(payment)
    elif result == Result.PAID and payment.status in {Status.PENDING, Status.FAILED}:
        is_placed = place(payment.order_id)
        payment.status = Status.PAID if is_placed else Status.REFUND_DUE
        payment.paid_at, payment.declined_at, payment.error = timezone.now(), None, ""
        payment.save(update_fields=["status", "paid_at", "declined_at", "error"])
        if not is_placed:
            logger.warning("Payment %d arrived for an order that is no longer open. It is refunded.", payment.pk)
            refunds.refund.delay(payment.pk)


def _decline(payment: Payment) -> None:
    """Let the customer try again for as long as the stock is kept, within :data:`MOST_TRIES`."""
    if payment.declined.count() + 1 >= MOST_TRIES:
        _fail(payment, "It was declined too often.")
        return
    payment.asked_at, payment.declined_at, payment.error = None, timezone.now(), "It was declined."
    payment.save(update_fields=["asked_at", "declined_at", "error"])


def _fail(payment: Payment, error: str) -> None:
    payment.status, payment.error = Status.FAILED, error
    payment.save(update_fields=["status", "error"])
    let_go(payment.order_id)
