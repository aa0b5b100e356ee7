"""The promises of payments, checked by ``manage.py outbox verify`` with a fixed number of queries."""

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from celery_ledger.walking import walk
from payments.models import Payment
from store.models import Order

Status = Payment.Status
#: How late the task that expires an order may be.
MERCY = timedelta(minutes=10)


def unlike_orders() -> Iterator[str]:
    """Yield a line for each order whose state contradicts its payment."""
    gone = [Order.Status.UNPAID, Order.Status.EXPIRED, Order.Status.CANCELLED]
    standing = [status for status in Order.Status.values if status not in gone]
    wrong = Payment.objects.select_related("order").filter(
        Q(status=Status.PAID, order__status__in=gone) | (~Q(status=Status.PAID) & Q(order__status__in=standing))
    )
    for payment in walk(wrong):
        yield f"order {payment.order_id} is {payment.order.status}, but its payment is {payment.status}"


def overdue() -> Iterator[str]:
    """Yield a line for each payment that should have been settled or abandoned by now."""
    late = Payment.objects.filter(status=Status.PENDING, expires_at__lt=timezone.now() - MERCY)
    for payment in walk(late.select_related("order")):
        if payment.order.status == Order.Status.UNPAID:
            yield f"order {payment.order_id} is waiting for a payment that was due at {payment.expires_at}"
