"""
Verification of email addresses.

Promises that an unverified address is sent nothing but requests to confirm it; that a verified address is replaced
only after the links sent to both addresses have been followed; and that a link works once and expires after
:data:`LINK_DAYS`. Addresses entered by staff count as verified.
"""

from datetime import timedelta
from typing import Any, Final, Literal

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.db import transaction
from django.utils import timezone

from email_app.models import AddressClaim
from store.customers import AddressTaken, TooManyAddresses

#: Days until a mailed link expires.
LINK_DAYS: Final = 3
#: Verification mails that one user may request per hour.
ASKS_AN_HOUR: Final = 5
SALT: Final = "email_app.addresses"
#: The address that a link was sent to: the one to verify, or the one to be replaced.
End = Literal["new", "old"]


class BadLink(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The link is forged, used or expired."""


def is_unverified(email: str) -> bool:
    """Whether an address is a user's current one and has not been verified."""
    return AddressClaim.objects.filter(email=email, user__email=email).exists()


def claim(user: Any) -> AddressClaim:
    """Record a new user's address as unverified."""
    return AddressClaim.objects.create(user=user, email=user.email, asked=1)


def wish(user: Any, email: str) -> AddressClaim | None:
    """
    Request a change of a user's address; return the claim that remains to be verified, or None.

    An unverified address is replaced at once. A verified one stays until the links sent to both have been followed.

    Raises:
        AddressTaken: another account has it.
        TooManyAddresses: the user has requested too many verification mails.
    """
    with transaction.atomic():
        user = get_user_model()._default_manager.select_for_update(no_key=True).get(pk=user.pk)
        known = AddressClaim.objects.select_for_update().filter(user=user).first()
        unverified = known is not None and known.email == user.email
        if email == user.email:
            return None
        _check_free(user, email)
        if email.casefold() == user.email.casefold() or unverified:
            user.email = email
            user.save(update_fields=["email"])
            if known is None or not unverified:
                return None
        row = known or AddressClaim(user=user)
        _count(row)
        row.email, row.nonce = email, AddressClaim._meta.get_field("nonce").get_default()
        row.made_at, row.shown_at, row.allowed_at = timezone.now(), None, None
        row.save()
        return row


def ask_again(user: Any) -> AddressClaim | None:
    """
    Return a user's unverified claim for another verification mail, or None.

    Raises:
        TooManyAddresses: the user has requested too many verification mails.
    """
    with transaction.atomic():
        row = AddressClaim.objects.select_for_update().filter(user=user).first()
        if row is not None:
            _count(row)
            row.save(update_fields=["asked", "asked_since"])
        return row


def link(row: AddressClaim, end: End) -> str:
    """Return the link that proves access to one of the claim's two addresses."""
    return f"{settings.SITE_URL}/verify-email?token={signing.dumps([row.pk, row.nonce, end], salt=SALT)}"


def confirm(token: str) -> tuple[Any, bool]:
    """
    Redeem a link. Return its user, and whether the address is now verified; if not, the other link is still open.

    Raises:
        BadLink: the link is forged, used or expired.
        AddressTaken: another account has taken the address in the meantime.
    """
    try:
        pk, nonce, end = signing.loads(token, salt=SALT, max_age=timedelta(days=LINK_DAYS))
    except (signing.BadSignature, ValueError, TypeError):
        raise BadLink from None
    with transaction.atomic():
        row = AddressClaim.objects.select_for_update().select_related("user").filter(pk=pk, nonce=nonce).first()
        field = "shown_at" if end == "new" else "allowed_at"
        if row is None or getattr(row, field) is not None:
            raise BadLink
        setattr(row, field, timezone.now())
        user, is_present = row.user, row.email == row.user.email
        if not row.shown_at or not (row.allowed_at or is_present):
            row.save(update_fields=[field])
            return user, False
        if not is_present:
            _check_free(user, row.email)
            user.email = row.email
            user.save(update_fields=["email"])
        row.delete()
        return user, True


def take_for_shown(user: Any) -> bool:
    """Mark a user's current address as verified without a link; return whether it was unverified."""
    return AddressClaim.objects.filter(user=user, email=user.email).delete()[0] > 0


def _check_free(user: Any, email: str) -> None:
    if get_user_model()._default_manager.exclude(pk=user.pk).filter(email__iexact=email).exists():
        raise AddressTaken


def _count(row: AddressClaim) -> None:
    now = timezone.now()
    if now - row.asked_since >= timedelta(hours=1):
        row.asked, row.asked_since = 0, now
    if row.asked >= ASKS_AN_HOUR:
        raise TooManyAddresses((row.asked_since + timedelta(hours=1) - now).total_seconds())
    row.asked += 1
