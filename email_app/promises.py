"""
The promises of mail, checked by ``manage.py outbox verify``: no mail is lost or sent twice.

A mail in progress has an open task in the ledger; one that was given up has a dead or discarded task, or a row with the
status ``failed``. All of these are accounted for. The number of queries does not grow with the orders.
"""

import logging
from collections.abc import Iterator

from django.db.models import Exists, OuterRef, Q, QuerySet

from celery_ledger.promises import is_owed
from celery_ledger.walking import walk, walk_keys
from email_app.models import EmailDelivery
from store.models import Order

logger = logging.getLogger(__name__)

Kind, Status = EmailDelivery.Kind, EmailDelivery.Status
#: The mails that a customer gets about an order, one of each.
ABOUT_ORDERS = [Kind.ORDER_CONFIRMATION, Kind.ORDER_CANCELLATION, Kind.ORDER_SHIPPED, Kind.ORDER_DELIVERED]


def orders_without_confirmation() -> Iterator[str]:
    """Yield a line for each order whose confirmation is neither sent nor otherwise explained."""
    return _orders_without(
        Order.objects.placed(),
        kind=Kind.ORDER_CONFIRMATION,
        task="email_app.tasks.send_order_confirmation",
        receiver="email_app.enqueue_order_confirmation",
    )


def cancelled_orders_without_mail() -> Iterator[str]:
    """Yield a line for each cancelled order whose mail is neither sent nor otherwise explained."""
    return _orders_without(
        Order.objects.filter(status=Order.Status.CANCELLED),
        kind=Kind.ORDER_CANCELLATION,
        task="email_app.tasks.send_order_cancellation",
        receiver="email_app.enqueue_order_cancellation",
    )


def shipped_orders_without_mail() -> Iterator[str]:
    """Yield a line for each shipped order whose mail is neither sent nor otherwise explained."""
    return _orders_without(
        Order.objects.filter(shipped_at__isnull=False),
        kind=Kind.ORDER_SHIPPED,
        task="email_app.tasks.send_order_shipped",
        receiver="email_app.enqueue_shipped_mail",
        moment="shipped_at",
    )


def delivered_orders_without_mail() -> Iterator[str]:
    """Yield a line for each delivered order whose mail is neither sent nor otherwise explained."""
    return _orders_without(
        Order.objects.filter(delivered_at__isnull=False),
        kind=Kind.ORDER_DELIVERED,
        task="email_app.tasks.send_order_delivered",
        receiver="email_app.enqueue_delivered_mail",
        moment="delivered_at",
    )


def mails_without_order() -> Iterator[str]:
    """Yield a line for each order mail that refers to no order."""
    mails = EmailDelivery.objects.filter(kind__in=ABOUT_ORDERS, order=None)
    for mail in walk(mails):
        yield f"{mail} has no order"


def mails_with_a_wrong_time() -> Iterator[str]:
    """Yield a line for each sent mail without a time, and each unsent mail with one."""
    mails = EmailDelivery.objects.filter(
        Q(status=Status.SENT, sent_at=None) | (~Q(status=Status.SENT) & Q(sent_at__isnull=False))
    )
    for mail in walk(mails):
        yield f"{mail} is {mail.status}, sent at {mail.sent_at}"


def _orders_without(
    orders: QuerySet[Order], *, kind: str, task: str, receiver: str, moment: str = "placed_at"
) -> Iterator[str]:
    unsent = orders.filter(~Exists(EmailDelivery.objects.filter(kind=kind, order=OuterRef("pk"), status=Status.SENT)))
    ended = [Status.FAILED, Status.HELD]  # Held: the address is not verified, and perhaps never will be.
    given_up = Exists(EmailDelivery.objects.filter(kind=kind, order=OuterRef("pk"), status__in=ended))
    in_ledger = is_owed(task, receiver=receiver, model="store.order", moment=moment)
    if accounted_for := unsent.filter(given_up | in_ledger).count():
        logger.info("%d orders are waiting for their %s mail, or have a dead letter instead.", accounted_for, kind)
    for order_id in walk_keys(unsent.exclude(given_up | in_ledger)):
        yield f"order {order_id} has no {kind} mail marked as sent, and no task that will send one"
