"""
Passwords: confirmed before sensitive actions, changed, and reset by mail.

Promises that a new password ends every session and token of its user except the one that set it; that a mailed link
sets one password, within ``PASSWORD_RESET_TIMEOUT``; and that neither responses nor their timing reveal whether an
address has an account.
"""

from typing import Any
from uuid import uuid4

from axes.models import AccessAttempt
from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as InvalidPassword
from django.db import transaction
from rest_framework.request import Request

from celery_ledger.faults import crash_point
from celery_ledger.models import Priority
from email_app import addresses, reset, tasks


class WeakPassword(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The password is too easy to guess; ``reasons`` says why."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("Weak password.")
        self.reasons = reasons


def is_own(request: Request, password: str) -> bool:
    """
    Whether this is the signed-in user's password.

    A wrong password counts as a failed login: after too many, the middleware of django-axes answers 429, here and at
    every other login.
    """
    user: Any = request.user
    request._request.login_name = user.get_username()  # type: ignore[attr-defined]  # Read by accounts/lockout.py.
    credentials = {user.USERNAME_FIELD: user.get_username(), "password": password}
    return bool(authenticate(request._request, **credentials) == user)


def set_new(user: Any, password: str) -> None:
    """
    Change a user's password and notify the user's address, in one transaction.

    Raises:
        WeakPassword: it is too easy to guess.
    """
    try:
        validate_password(password, user)
    except InvalidPassword as error:
        raise WeakPassword(error.messages) from None
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        tasks.send_password_notice.apply_async((user.pk, uuid4().hex), priority=Priority.HIGH)


def salt_anew(user: Any, password: str) -> None:
    """Hash a user's unchanged password with a new salt: all existing sessions and tokens end."""
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])


def ask_for_link(email: str) -> None:
    """Mail a password reset link if the account exists; the work is the same if it does not."""
    user_id = get_user_model().objects.filter(email__iexact=email, is_active=True).values_list("pk", flat=True).first()
    tasks.send_password_reset.apply_async((user_id or 0, uuid4().hex), priority=Priority.HIGH)


def set_by_link(token: str, password: str) -> Any:
    """
    Set a new password by a mailed link, and return its user, whose address is thereby verified.

    Raises:
        addresses.BadLink: the link is forged, used or expired.
        WeakPassword: the password is too easy to guess; the link stays valid.
    """
    with transaction.atomic():
        user = reset.user_of(token)
        set_new(user, password)
        AccessAttempt.objects.filter(username=user.get_username().casefold()).delete()  # A forgotten one may be.
        if addresses.take_for_shown(user):
            tasks.release_mails.delay(user.pk)
        crash_point("accounts.before_reset")
    crash_point("accounts.after_reset")
    return user
