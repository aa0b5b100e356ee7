"""Notifications by mail, for users who chose e-mail for their kind, with an unsubscribe link that needs no login."""

from celery_ledger.errors import PermanentError
from email_app import addresses, delivery
from email_app.models import EmailDelivery
from notifications.deliveries import Status, open_delivery, settle
from notifications.unsubscribe import address_for


def send(delivery_id: int) -> None:
    """
    Send a notification by mail, unless it was sent, and record its outcome.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    wanted = open_delivery(delivery_id)
    if wanted is None:
        return
    notification = wanted.notification
    user = notification.user
    if addresses.is_unverified(user.email):
        settle(wanted, Status.SKIPPED, "The address is not verified.")
        return
    way_out = address_for(user.pk, notification.kind)
    try:
        delivery.deliver(
            EmailDelivery.Kind.NOTIFICATION,
            recipient=user.email,
            user_id=user.pk,
            reference=f"notification {notification.pk}",
            context={"user": user, "notification": notification, "unsubscribe_url": way_out},
            # One click, after RFC 8058: mail programs show a button, and post what the second header says.
            headers={"List-Unsubscribe": f"<{way_out}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
        )
    except PermanentError as error:
        settle(wanted, Status.FAILED, str(error))
        raise
    settle(wanted, Status.SENT)
