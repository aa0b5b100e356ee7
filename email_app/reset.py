"""
Password reset links, sent by mail.

A link works once. It expires after ``PASSWORD_RESET_TIMEOUT``, or when the user next signs in.
"""

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.utils import timezone
from django.utils.http import base36_to_int, int_to_base36

from email_app import delivery
from email_app.addresses import BadLink, is_unverified
from email_app.models import EmailDelivery

Kind = EmailDelivery.Kind
#: Reset mails that one user is sent per hour; further requests are ignored.
LINKS_AN_HOUR: Final = 5


def user_of(token: str) -> Any:
    """
    Return the user whom a link was issued to, with the row locked. Setting a password invalidates the link.

    Raises:
        BadLink: the link is forged, used or expired.
    """
    number, _, secret = token.partition(".")
    try:
        user_id = base36_to_int(number)
    except ValueError:
        raise BadLink from None
    users = get_user_model()._default_manager.select_for_update(no_key=True)
    user = users.filter(pk=user_id, is_active=True).first() if 0 < user_id < 2**63 else None
    if user is None or not default_token_generator.check_token(user, secret):
        raise BadLink
    return user


def send_link(user_id: int, reference: str) -> None:
    """
    Send a user a password reset link, once per reference and at most :data:`LINKS_AN_HOUR` times an hour.

    The mail is also sent to an unverified address, with fixed wording; following the link verifies the address.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    user: Any = get_user_model()._default_manager.filter(pk=user_id, is_active=True).first()
    if user is None or not user.has_usable_password():
        return
    late = EmailDelivery.objects.filter(user=user, kind=Kind.PASSWORD_RESET).exclude(reference=reference)
    if late.filter(created_at__gt=timezone.now() - timedelta(hours=1)).count() >= LINKS_AN_HOUR:
        return
    token = f"{int_to_base36(user.pk)}.{default_token_generator.make_token(user)}"
    delivery.deliver(
        Kind.PASSWORD_RESET,
        recipient=user.email,
        user_id=user.pk,
        reference=reference,
        to_anybody=is_unverified(user.email),
        context={
            "reset_url": f"{settings.SITE_URL}/reset-password?token={token}",
            "minutes": settings.PASSWORD_RESET_TIMEOUT // 60,
        },
    )


def send_notice(user_id: int, reference: str) -> None:
    """
    Notify a user that the password was changed, once per reference.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    user: Any = get_user_model()._default_manager.filter(pk=user_id).first()
    if user is not None:
        delivery.deliver(
            Kind.PASSWORD_CHANGED,
            recipient=user.email,
            user_id=user.pk,
            reference=reference,
            context={"reset_url": f"{settings.SITE_URL}/reset-password"},
        )
