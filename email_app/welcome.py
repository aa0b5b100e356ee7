"""What the welcome mail says."""

from django.contrib.auth import get_user_model

from email_app import delivery
from email_app.models import EmailDelivery
from worker.errors import PermanentError


def send(user_id: int) -> None:
    """
    Welcome a user, unless that was done.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    user = get_user_model().objects.filter(pk=user_id).first()
    if user is None:
        raise PermanentError(f"User {user_id} no longer exists.")
    delivery.deliver(EmailDelivery.Kind.WELCOME, recipient=user.email, user_id=user.pk, context={"user": user})
