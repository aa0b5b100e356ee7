"""
Receivers that enqueue mails, connected in apps.py; each enqueues one durable task.

The task's ledger row is a part of the transaction that caused it: a mail is owed if and only if that
transaction commits.
"""

from datetime import datetime
from typing import Any
from uuid import uuid4

from django.contrib.auth.base_user import AbstractBaseUser

from celery_ledger.context import working_on
from celery_ledger.models import Priority
from email_app import addresses, tasks
from email_app.models import AddressClaim
from notifications.models import Channel
from store.customers import NO_DOMAIN
from store.models import Order


def enqueue_order_confirmation(sender: object, order: Order, **kwargs: Any) -> None:
    """Send the confirmation of a placed order."""
    tasks.send_order_confirmation.delay(order.pk)


def enqueue_order_cancellation(sender: object, order: Order, **kwargs: Any) -> None:
    """Send the cancellation of an order."""
    tasks.send_order_cancellation.delay(order.pk)


def enqueue_shipped_mail(sender: object, order: Order, **kwargs: Any) -> None:
    """Tell the customer that an order is on its way."""
    tasks.send_order_shipped.delay(order.pk)


def enqueue_delivered_mail(sender: object, order: Order, **kwargs: Any) -> None:
    """Tell the customer that an order has arrived."""
    tasks.send_order_delivered.delay(order.pk)


def enqueue_welcome_mail(
    sender: object, instance: AbstractBaseUser, *, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """Send a new user the welcome mail, except users from fixtures or without an address."""
    if created and not raw and not str(getattr(instance, "email", "")).endswith(f"@{NO_DOMAIN}"):
        tasks.send_welcome.delay(instance.pk)


def ask_about_address(sender: object, user: AbstractBaseUser, email: str, **kwargs: Any) -> None:
    """A customer requests a new address: mail a link to it, and another to a verified old address."""
    enqueue_address_checks(addresses.wish(user, email))


def enqueue_address_checks(claim: AddressClaim | None) -> None:
    """Enqueue a verification mail for each user with an unverified address."""
    if claim is None:
        return
    reference = uuid4().hex
    if claim.shown_at is None:
        tasks.send_address_check.apply_async((claim.pk, reference), priority=Priority.HIGH)
    if claim.email != claim.user.email and claim.allowed_at is None:
        tasks.send_address_change.apply_async((claim.pk, reference), priority=Priority.HIGH)


def enqueue_duplicate_alert(
    sender: object, instance: Order, *, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """Alert the managers by mail when a new order is a duplicate."""
    if created and instance.duplicate and not raw:
        with working_on(subject=instance.subject):
            tasks.alert_managers_of_duplicate.delay(instance.pk)


def enqueue_notification_mails(
    sender: object, channel: str, deliveries: list[int], due_at: str | None, **kwargs: Any
) -> None:
    """Enqueue a mail for each notification, due when its reader's quiet hours end."""
    if channel == Channel.EMAIL:
        eta = datetime.fromisoformat(due_at) if due_at else None
        for delivery_id in deliveries:
            tasks.send_notification.apply_async((delivery_id,), eta=eta)
