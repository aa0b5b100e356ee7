"""
A user's personal data: exported in full, and deleted on request.

Deletion is one transaction. A customer's orders stay, because the books need them, with an anonymous profile; a
customer without orders is deleted completely. The audit trail records the deletion, but not the data.
"""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Model, Q

from accounts import sign_ins, tokens
from accounts.models import LoginFailures, SignIn, User
from audit_trail import audit
from audit_trail.models import AuditEntry
from celery_ledger.faults import crash_point
from email_app.models import AddressClaim, EmailDelivery
from messaging.models import Block, Message
from notifications.models import Notification, NotificationPreference, PushSubscription, QuietHours
from payments.models import Payment
from phones.models import PhoneVerification
from store.addresses import PARTS as ADDRESS_PARTS
from store.customers import NO_DOMAIN, customer_of
from store.models import Cart, CartItem, IdempotencyKey, Order, OrderItem, ShippingAddress
from store.placing import let_go
from webhooks.models import WebhookEndpoint

#: The most rows of one kind in an export; the newest are kept.
MOST: Final = 10_000


class NotDeletable(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The account cannot be deleted now; the message says why."""


def export(user: Any) -> dict[str, Any]:
    """Return everything that the shop stores about a user, as JSON. It contains no secrets."""
    customer = customer_of(user)
    orders = Order.objects.filter(customer=customer).order_by("-id")[:MOST]
    lines = OrderItem.objects.filter(order__in=[order.pk for order in orders]).order_by("id")
    crash_point("accounts.half_exported")
    return {
        "user": _row(user, "id", "username", "email", "first_name", "last_name", "date_joined", "last_login"),
        "profile": _row(customer, "id", "phone", "birth_date", "country"),
        "orders": _rows(
            orders,
            *("id", "status", "placed_at", "settled_at", "shipped_at", "delivered_at"),
            *("total", "currency", "duplicate"),
        ),
        "order_items": _rows(lines[: MOST * 10], "order_id", "product_id", "quantity", "unit_price"),
        "shipping_addresses": _rows(
            ShippingAddress.objects.filter(order__in=[order.pk for order in orders]).order_by("order_id"),
            *("order_id", *ADDRESS_PARTS),
        ),
        "payments": _rows(
            Payment.objects.filter(order__in=[order.pk for order in orders]),
            *("order_id", "status", "amount", "currency", "created_at", "paid_at", "refunded_at"),
        ),
        "carts": _rows(Cart.objects.filter(customer=customer).order_by("created_at")[:MOST], "id", "created_at"),
        "cart_items": _rows(
            CartItem.objects.filter(cart__customer=customer).order_by("id")[:MOST], "cart_id", "product_id", "quantity"
        ),
        "mails": _rows(
            EmailDelivery.objects.filter(Q(user=user) | Q(user=None, order__customer=customer)).order_by("-id")[:MOST],
            *("id", "kind", "recipient", "order_id", "status", "created_at", "sent_at"),
        ),
        "notifications": _rows(
            Notification.objects.filter(user=user).order_by("-id")[:MOST],
            *("id", "kind", "message", "data", "created", "read"),
        ),
        "notification_preferences": _rows(
            NotificationPreference.objects.filter(user=user).order_by("id"), "kind", "channel", "enabled"
        ),
        "quiet_hours": _rows(QuietHours.objects.filter(user=user), "start", "end", "time_zone"),
        "push_subscriptions": _rows(PushSubscription.objects.filter(user=user).order_by("id")[:MOST], "endpoint"),
        "messages": _rows(
            Message.objects.filter(Q(sender=user) | Q(receiver=user)).order_by("-id")[:MOST],
            *("id", "sender_id", "receiver_id", "content", "timestamp", "read_at"),
        ),
        "blocks": _rows(Block.objects.filter(user=user).order_by("id")[:MOST], "blocked_id", "created_at"),
        "phone_verifications": _rows(
            PhoneVerification.objects.filter(customer=customer).order_by("-id")[:MOST],
            *("phone", "created_at", "verified_at"),
        ),
        "sign_ins": _rows(sign_ins.of_user(user), "kind", "agent", "client", "created_at", "last_used_at"),
        "audit_trail": _rows(
            AuditEntry.objects.filter(who=user).order_by("-id")[:MOST], "at", "what", "model", "object_id"
        ),
    }


def delete(user: Any) -> None:
    """
    Delete a user and all personal data.

    Raises:
        NotDeletable: it is a staff account, or one of its orders has not been shipped.
    """
    with transaction.atomic():
        user = User.objects.select_for_update(of=("self",), no_key=True).get(pk=user.pk)
        if user.is_staff:
            raise NotDeletable("This is a staff account. Ask an administrator to close it.")
        customer = customer_of(user)
        for order_id in Order.objects.filter(customer=customer, status=Order.Status.UNPAID).values_list(
            "pk", flat=True
        ):
            let_go(order_id)
        orders = Order.objects.filter(customer=customer)
        if orders.filter(status=Order.Status.PLACED, shipping_address__isnull=False).exists():
            raise NotDeletable(
                "You have an order that has not been shipped yet. Cancel it, or wait until it is shipped."
            )
        _forget(user)
        crash_point("accounts.half_deleted")
        if orders.exists():
            _anonymise(user, customer)
        else:
            user.delete()
        crash_point("accounts.before_deleted")
    crash_point("accounts.after_deleted")


def _forget(user: Any) -> None:
    """Delete the rows that belong to this user alone."""
    customer = user.customer
    names = SignIn.objects.filter(user=user, kind=SignIn.Kind.SESSION).values("name")
    Session.objects.filter(session_key__in=names).delete()
    for name in SignIn.objects.filter(user=user, kind=SignIn.Kind.TOKENS).values_list("name", flat=True):
        tokens.end_family(name)
    SignIn.objects.filter(user=user).delete()
    LoginFailures.objects.filter(user_id=user.pk).delete()
    for model in (AccessAttempt, AccessLog, AccessFailureLog):
        model.objects.filter(username=user.get_username().casefold()).delete()
    LogEntry.objects.filter(user=user).delete()
    Cart.objects.filter(customer=customer).delete()
    IdempotencyKey.objects.filter(user=user).delete()
    AddressClaim.objects.filter(user=user).delete()
    EmailDelivery.objects.filter(user=user).delete()
    Message.objects.filter(Q(sender=user) | Q(receiver=user)).delete()
    Block.objects.filter(Q(user=user) | Q(blocked=user)).delete()
    for owned in (Notification, NotificationPreference, QuietHours, PushSubscription):
        owned.objects.filter(user=user).delete()
    PhoneVerification.objects.filter(customer=customer).delete()
    ShippingAddress.objects.filter(order__customer=customer).delete()
    WebhookEndpoint.objects.filter(owner=user).update(owner=None)


def _anonymise(user: Any, customer: Any) -> None:
    """Anonymise a user, their profile and their mails; of the mails, only the fact that they were sent is kept."""
    anonymous = f"deleted-{uuid4().hex}"
    user.username, user.email = anonymous, f"{anonymous}@{NO_DOMAIN}"
    user.first_name = user.last_name = ""
    user.last_login = None
    user.is_active = False
    user.set_unusable_password()
    user.save()
    user.groups.clear()
    user.user_permissions.clear()
    customer.phone, customer.birth_date, customer.country = "", None, ""
    customer.save()
    EmailDelivery.objects.filter(order__customer=customer).update(recipient=user.email)
    audit.write(AuditEntry.What.DELETED, user, who=user.pk)


def _rows(things: Iterable[Model], *names: str) -> list[dict[str, Any]]:
    return [_row(thing, *names) for thing in things]


def _row(thing: Model, *names: str) -> dict[str, Any]:
    return {name: _plain(getattr(thing, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | UUID) or hasattr(value, "isoformat") else value
