"""The welcome mail."""

from django.contrib.auth import get_user_model

from celery_ledger.errors import PermanentError
from email_app import addresses, delivery
from email_app.models import AddressClaim, EmailDelivery


def send(user_id: int) -> None:
    """
    Send a user the welcome mail, once. If the address is unverified, it contains the verification link.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    user = get_user_model().objects.filter(pk=user_id).first()
    if user is None:
        raise PermanentError(f"User {user_id} no longer exists.")
    claim = AddressClaim.objects.filter(user=user, email=user.email).first()
    context = {"verify_url": addresses.link(claim, "new"), "days": addresses.LINK_DAYS} if claim else {"user": user}
    kind, to_anybody = EmailDelivery.Kind.WELCOME, claim is not None
    delivery.deliver(kind, recipient=user.email, user_id=user.pk, context=context, to_anybody=to_anybody)
