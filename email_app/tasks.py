"""
The mails, as durable tasks. Called by receivers.py; those that send work outside any transaction.

Each mail is at-least-once: a second run finds the mail sent and does nothing, but for the moment between
the server's answer and its record (see delivery.py). Refused connections, timeouts and 4xx answers
are retried; what can never succeed is a dead letter at once.
"""

from datetime import timedelta

from celery import shared_task
from django.conf import settings

from email_app import delivery, notification_mail, order_mail, welcome
from store.managers import managers


@shared_task(name="email_app.tasks.send_order_confirmation", transactional=False)
def send_order_confirmation(order_id: int) -> None:
    """
    Send the confirmation of an order. One mail an order: a second run finds it sent.

    Permanent errors: the order is gone, there is no usable address, the mail server refuses with 5xx.
    """
    order_mail.send_confirmation(order_id)


@shared_task(name="email_app.tasks.send_order_cancellation", transactional=False)
def send_order_cancellation(order_id: int) -> None:
    """
    Tell an order's customer that it is cancelled. One mail an order: a second run finds it sent.

    Permanent errors: as for the confirmation.
    """
    order_mail.send_cancellation(order_id)


@shared_task(name="email_app.tasks.send_welcome", transactional=False)
def send_welcome(user_id: int) -> None:
    """
    Welcome a new user. One mail a user: a second run finds it sent.

    Permanent errors: the user is gone, there is no usable address, the mail server refuses with 5xx.
    """
    welcome.send(user_id)


@shared_task(name="email_app.tasks.alert_managers_of_duplicate")
def alert_managers_of_duplicate(order_id: int) -> None:
    """
    Have each manager sent a mail about a duplicate order, by a task of its own.

    In one transaction: all of them are enqueued, once.
    """
    for manager_id in managers().values_list("pk", flat=True):
        send_duplicate_alert.delay(order_id, manager_id)


@shared_task(name="email_app.tasks.send_duplicate_alert", transactional=False)
def send_duplicate_alert(order_id: int, manager_id: int) -> None:
    """
    Tell one manager of a duplicate order. One mail an order and manager: a second run finds it sent.

    Permanent errors: order or manager are gone, and as for the confirmation.
    """
    order_mail.send_duplicate_alert(order_id, manager_id)


@shared_task(name="email_app.tasks.send_notification", transactional=False)
def send_notification(delivery_id: int) -> None:
    """
    Send a notification by mail. One mail a notification: a second run finds it sent.

    Permanent errors: there is no usable address, the mail server refuses with 5xx.
    """
    notification_mail.send(delivery_id)


@shared_task(name="email_app.tasks.prune_mails", queue="scheduled", transactional=False)
def prune_mails() -> int:
    """
    Delete the records of mails that are older than ``MAIL_RETENTION_DAYS`` and not a customer's about an order.

    Those stay with their orders: ``outbox verify`` counts them. Returns how many were deleted. Repeatable.
    """
    return delivery.prune(older_than=timedelta(days=settings.MAIL_RETENTION_DAYS))
