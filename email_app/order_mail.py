"""The contents of mails about an order."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import DecimalField, ExpressionWrapper, F, QuerySet

from celery_ledger.errors import PermanentError
from email_app import delivery
from email_app.models import EmailDelivery
from store.addresses import address_of, envelope
from store.models import Order, OrderItem

Kind = EmailDelivery.Kind


def send(kind: EmailDelivery.Kind, order_id: int) -> None:
    """
    Send the customer a mail of this kind about an order, unless it was sent.

    An order that was cancelled meanwhile is confirmed too, and its mail says so: the two mails may arrive
    in any order.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    order = _order(order_id)
    user = order.customer.user
    delivery.deliver(
        kind,
        recipient=user.email,
        order_id=order.pk,
        context={
            "order": order,
            "user": user,
            "lines": _lines(order),
            "address": envelope(address_of(order)),
            "cancelled": order.status == Order.Status.CANCELLED,
            "order_url": f"{settings.SITE_URL}/orders/{order.pk}",
        },
    )


def send_duplicate_alert(order_id: int, manager_id: int) -> None:
    """
    Alert a manager to a duplicate order, unless that was done.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    manager = get_user_model()._default_manager.filter(pk=manager_id).first()
    if manager is None:
        raise PermanentError(f"User {manager_id} no longer exists.")
    order = _order(order_id)
    delivery.deliver(
        Kind.DUPLICATE_ORDER,
        recipient=manager.email,
        order_id=order.pk,
        user_id=manager.pk,
        context={
            "order": order,
            "user": manager,
            "lines": _lines(order),
            "minutes": settings.DUPLICATE_ORDER_WINDOW,
            "order_url": f"{settings.SITE_URL}/admin/store/order/{order.pk}/change/",
        },
    )


def _order(order_id: int) -> Order:
    try:
        return Order.objects.select_related("customer__user", "shipping_address").get(pk=order_id)
    except Order.DoesNotExist:
        raise PermanentError(f"Order {order_id} no longer exists.") from None


def _lines(order: Order) -> QuerySet[OrderItem]:
    """Return an order's lines with their totals; read once, and only if the mail is rendered."""
    amount = ExpressionWrapper(
        F("quantity") * F("unit_price"), output_field=DecimalField(max_digits=18, decimal_places=2)
    )
    return order.items.select_related("product").annotate(amount=amount)
