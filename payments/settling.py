"""
What becomes of an order and its payment, from whatever source the news comes, and however often.

Every change is here, in one transaction that holds the payment's row and then the order's. Promises that an order is
placed by its payment once; that its stock is kept or given back, once; and that money for an order which no longer
stands goes back.
"""

import logging
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from celery_ledger.context import working_on
from celery_ledger.faults import crash_point
from payments import tasks
from payments.models import Payment, PaymentCallback
from payments.provider import Result
from store.models import Order
from store.placing import let_go, place

logger = logging.getLogger(__name__)
Status = Payment.Status


class WrongAmount(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The provider speaks of another amount than the order costs."""


class NotPayable(Exception):  # noqa: N818 - As above.
    """The order was not paid in time, was declined or taken back: nothing is taken for it any more."""


def ask(payment_id: int) -> Payment:
    """
    Have the provider asked for the money, once, however often a customer says so; return the payment as it is now.

    Raises:
        NotPayable: the order waits no more, and is not paid.
    """
    with transaction.atomic():
        payment = _hold(payment_id)
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


def settle(payment_id: int, result: Result) -> None:
    """Take what the provider says has become of a payment. Repeatable, and in any order."""
    with transaction.atomic():
        _settle(_hold(payment_id), result)


def take_callback(message_id: str, *, reference: str, result: Result, amount: Decimal, currency: str) -> None:
    """
    Take a genuine message of the provider's, once for each id.

    Raises:
        Payment.DoesNotExist: there is none of that reference.
        WrongAmount: it is about another amount.
    """
    with transaction.atomic():
        payment = _hold(Payment.objects.values_list("pk", flat=True).get(reference=reference))
        if (payment.amount, payment.currency) != (amount, currency):
            raise WrongAmount
        _, is_new = PaymentCallback.objects.get_or_create(
            message_id=message_id, defaults={"payment": payment, "result": result}
        )
        if is_new:
            _settle(payment, result)


def expire(payment_id: int) -> None:
    """
    Let an order go that is not paid in time, or was taken back before. One that is paid stays as it is.

    Whether a provider that was asked has charged may be unknown: it is told that nothing is wanted any more.
    """
    with transaction.atomic():
        payment = _hold(payment_id)
        is_late = payment.expires_at <= timezone.now()
        is_wanted = Order.objects.filter(pk=payment.order_id, status=Order.Status.UNPAID).exists()
        if payment.status == Status.PENDING and (is_late or not is_wanted):
            _fail(payment, "It was not paid in time." if is_late else "The order was taken back.")
            if payment.asked_at:
                tasks.void.delay(payment.pk)
            crash_point("payments.before_let_go")
    crash_point("payments.after_let_go")


def give_back(order: Order) -> None:
    """Have the money of an order that is cancelled given back, in the current transaction, which holds the order."""
    changed = Payment.objects.filter(order=order, status=Status.PAID).update(status=Status.REFUND_DUE)
    if changed:
        tasks.refund.delay(order.payment.pk)


def returned(payment_id: int) -> None:
    """Note that the money went back."""
    Payment.objects.filter(pk=payment_id, status=Status.REFUND_DUE).update(
        status=Status.REFUNDED, refunded_at=timezone.now()
    )


def _hold(payment_id: int) -> Payment:
    return Payment.objects.select_for_update(of=("self",), no_key=True).get(pk=payment_id)


def _settle(payment: Payment, result: Result) -> None:
    if result == Result.DECLINED and payment.status == Status.PENDING:
        _fail(payment, "It was declined.")
    elif result == Result.PAID and payment.status in {Status.PENDING, Status.FAILED}:
        is_placed = place(payment.order_id)
        payment.status = Status.PAID if is_placed else Status.REFUND_DUE
        payment.paid_at, payment.error = timezone.now(), ""
        payment.save(update_fields=["status", "paid_at", "error"])
        if not is_placed:
            logger.warning("Payment %d came for an order that no longer stands: it goes back.", payment.pk)
            tasks.refund.delay(payment.pk)


def _fail(payment: Payment, error: str) -> None:
    payment.status, payment.error = Status.FAILED, error
    payment.save(update_fields=["status", "error"])
    let_go(payment.order_id)
