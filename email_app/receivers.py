"""
What mail does about what happens. Connected in apps.py; each receiver enqueues one durable task.

The task's ledger row is a part of the transaction that caused it: a mail is owed if and only if that
transaction commits.
"""

from datetime import datetime
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser

from email_app import tasks
from notifications.models import Channel
from store.customers import NO_DOMAIN
from store.models import Order
from worker.context import working_on


def enqueue_order_confirmation(sender: object, order: Order, **kwargs: Any) -> None:
    """Have a placed order confirmed by mail."""
    tasks.send_order_confirmation.delay(order.pk)


def enqueue_order_cancellation(sender: object, order: Order, **kwargs: Any) -> None:
    """Have a cancelled order's customer told by mail."""
    tasks.send_order_cancellation.delay(order.pk)


def enqueue_welcome_mail(
    sender: object, instance: AbstractBaseUser, *, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """Have a new user welcomed; not one that is loaded from a fixture, or that has no address yet."""
    if created and not raw and not str(getattr(instance, "email", "")).endswith(f"@{NO_DOMAIN}"):
        tasks.send_welcome.delay(instance.pk)


def enqueue_duplicate_alert(
    sender: object, instance: Order, *, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """An order was saved: if it is new and a duplicate, have a mail sent to each manager."""
    if created and instance.duplicate and not raw:
        with working_on(subject=instance.subject):
            tasks.alert_managers_of_duplicate.delay(instance.pk)


def enqueue_notification_mails(
    sender: object, channel: str, deliveries: list[int], due_at: str | None, **kwargs: Any
) -> None:
    """Have notifications sent by mail, each by a task of its own, when their readers' quiet hours are over."""
    if channel == Channel.EMAIL:
        eta = datetime.fromisoformat(due_at) if due_at else None
        for delivery_id in deliveries:
            tasks.send_notification.apply_async((delivery_id,), eta=eta)
