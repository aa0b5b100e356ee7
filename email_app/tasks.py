"""
Durable tasks that send mail. Enqueued by receivers.py; tasks that send run outside any transaction.

Delivery is at least once: a task that runs again finds its mail sent and does nothing. A duplicate is possible
only if the record of the server's answer is lost (see delivery.py). Refused connections, timeouts and 4xx
responses are retried; permanent errors become dead letters at once.
"""

from datetime import timedelta
from typing import Final

from celery import shared_task
from django.conf import settings

from celery_ledger.context import working_on
from celery_ledger.desk import turns
from email_app import address_mail, delivery, notification_mail, order_mail, reset, welcome
from email_app.models import EmailDelivery
from store.managers import managers

Kind = EmailDelivery.Kind
#: Days after which a held mail about an order is no longer sent when its address is verified.
RELEASED_DAYS: Final = 7


@shared_task(
    name="email_app.tasks.send_order_confirmation",
    label="Send you the confirmation",
    transactional=False,
    retries="patient",
)
def send_order_confirmation(order_id: int) -> None:
    """
    Send an order confirmation, once per order.

    Permanent errors: the order no longer exists, the address is invalid, or the mail server answers with 5xx.
    """
    order_mail.send(Kind.ORDER_CONFIRMATION, order_id)


@shared_task(
    name="email_app.tasks.send_order_cancellation",
    label="Send you the cancellation",
    transactional=False,
    retries="patient",
)
def send_order_cancellation(order_id: int) -> None:
    """
    Send an order cancellation, once per order.

    Permanent errors: the same as for the confirmation.
    """
    order_mail.send(Kind.ORDER_CANCELLATION, order_id)


@shared_task(
    name="email_app.tasks.send_order_shipped",
    label="Tell you that it is on its way",
    transactional=False,
    retries="patient",
)
def send_order_shipped(order_id: int) -> None:
    """
    Tell a customer that an order is on its way, once per order.

    Permanent errors: the same as for the confirmation.
    """
    order_mail.send(Kind.ORDER_SHIPPED, order_id)


@shared_task(
    name="email_app.tasks.send_order_delivered",
    label="Tell you that it has arrived",
    transactional=False,
    retries="patient",
)
def send_order_delivered(order_id: int) -> None:
    """
    Tell a customer that an order has arrived, once per order.

    Permanent errors: the same as for the confirmation.
    """
    order_mail.send(Kind.ORDER_DELIVERED, order_id)


@shared_task(name="email_app.tasks.send_welcome", transactional=False, retries="patient")
def send_welcome(user_id: int) -> None:
    """
    Send a new user the welcome mail, once per user.

    Permanent errors: the user no longer exists, the address is invalid, or the mail server answers with 5xx.
    """
    welcome.send(user_id)


@shared_task(name="email_app.tasks.send_address_check", transactional=False, retries="patient")
def send_address_check(claim_id: int, reference: str) -> None:
    """
    Send a verification link to a user's new address, once per reference.

    Permanent errors: the address is invalid, or the mail server answers with 5xx.
    """
    address_mail.send_check(claim_id, reference)


@shared_task(name="email_app.tasks.send_address_change", transactional=False, retries="patient")
def send_address_change(claim_id: int, reference: str) -> None:
    """
    Ask a user's current address to approve a change, once per reference.

    Permanent errors: the address has already been changed, is invalid, or the mail server answers with 5xx.
    """
    address_mail.send_change(claim_id, reference)


@shared_task(name="email_app.tasks.send_password_reset", transactional=False, retries="patient")
def send_password_reset(user_id: int, reference: str) -> None:
    """
    Send a user a password reset link, once per reference and at most five times an hour.

    Requests for unknown addresses are enqueued for user 0, who does not exist, and send nothing: a caller cannot
    tell from the response whether an account exists.

    Permanent errors: the address is invalid, or the mail server answers with 5xx.
    """
    reset.send_link(user_id, reference)


@shared_task(name="email_app.tasks.send_password_notice", transactional=False, retries="patient")
def send_password_notice(user_id: int, reference: str) -> None:
    """
    Notify a user that the password was changed, once per reference.

    Permanent errors: the address is invalid, or the mail server answers with 5xx.
    """
    reset.send_notice(user_id, reference)


@shared_task(name="email_app.tasks.release_mails")
def release_mails(user_id: int) -> None:
    """
    Enqueue the mails that were held until a user's address was verified, up to ``RELEASED_DAYS`` old.

    Runs in one transaction: either all of them are enqueued, once, or none.
    """
    send = {
        Kind.ORDER_CONFIRMATION: send_order_confirmation,
        Kind.ORDER_CANCELLATION: send_order_cancellation,
        Kind.ORDER_SHIPPED: send_order_shipped,
        Kind.ORDER_DELIVERED: send_order_delivered,
    }
    for mail in delivery.release(user_id, younger_than=timedelta(days=RELEASED_DAYS)):
        with working_on(subject=f"store.order:{mail.order_id}"):
            send[Kind(mail.kind)].delay(mail.order_id)


@shared_task(name="email_app.tasks.alert_managers_of_duplicate", label="Find the managers to alert")
def alert_managers_of_duplicate(order_id: int) -> None:
    """
    Enqueue an alert about a duplicate order for each manager.

    Runs in one transaction: either all of them are enqueued, once, or none.
    """
    for manager_id in managers().values_list("pk", flat=True):
        send_duplicate_alert.delay(order_id, manager_id)


@shared_task(
    name="email_app.tasks.send_duplicate_alert",
    label="Alert a manager to a duplicate order",
    transactional=False,
    retries="patient",
)
def send_duplicate_alert(order_id: int, manager_id: int) -> None:
    """
    Alert a manager to a duplicate order, once per order and manager.

    Permanent errors: the order or the manager no longer exists, and those of the confirmation.
    """
    order_mail.send_duplicate_alert(order_id, manager_id)


@shared_task(
    name="email_app.tasks.send_notification", label="Notify you by email", transactional=False, retries="patient"
)
def send_notification(delivery_id: int) -> None:
    """
    Send a notification by mail, once per notification.

    Permanent errors: the address is invalid, or the mail server answers with 5xx.
    """
    notification_mail.send(delivery_id)


@shared_task(name="email_app.tasks.prune_mails", queue="scheduled", transactional=False)
def prune_mails() -> int:
    """
    Delete mail records older than ``MAIL_RETENTION_DAYS`` and return how many were deleted. Repeatable.

    Records of customers' mails about orders are kept with the orders: ``outbox verify`` counts them.
    """
    return turns.take(prune_mails, delivery.prune(older_than=timedelta(days=settings.MAIL_RETENTION_DAYS)))
