"""
Refresh tokens: each can be used once and yields the next. All tokens of one sign-in form a family.

Promises that a used token is refused; that a second use, long after the first one returned its successor, ends the
family, because one of the two clients has stolen the token; that signing out ends the family, including its access
tokens; and that a new password ends every token of its user, because each carries a digest of the password hash
(SimpleJWT's ``CHECK_REVOKE_TOKEN``).
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import RefreshToken as SimpleRefreshToken
from rest_framework_simplejwt.utils import datetime_from_epoch, get_md5_hash_password

from accounts.models import SpentToken

#: The claim that names a token's family.
FAMILY: Final = "family"
#: For how long a second use may be a client's retry: the token is refused, but its family is not ended.
MERCY: Final = timedelta(seconds=60)
#: The maximum number of expired rows deleted with each row written.
SWEEP: Final = 100


class RefreshToken(SimpleRefreshToken):
    """SimpleJWT's refresh token, extended by a family, to which its access tokens also belong."""

    @classmethod
    def for_user(cls, user: Any, *, family: str = "") -> Any:
        """Return a token for a user who has authenticated, or presented the previous token."""
        token: Any = super().for_user(user)
        token[FAMILY] = family or token[api_settings.JTI_CLAIM]
        return token


def pair_for(user: Any, *, family: str = "") -> dict[str, str]:
    """Return a refresh and an access token for a user."""
    refresh = RefreshToken.for_user(user, family=family)
    return {"refresh": str(refresh), "access": str(refresh.access_token)}


def family_of(pair: dict[str, str]) -> str:
    """Return the family of newly issued tokens."""
    return str(RefreshToken(pair["refresh"])[FAMILY])  # type: ignore[arg-type]


def name_of_family(token: Any) -> str:
    """Return the name under which a family is stored as spent."""
    return f"family {token.get(FAMILY) or token[api_settings.JTI_CLAIM]}"


def ended(families: Collection[str]) -> set[str]:
    """Return the ``families`` that were signed out."""
    spent = SpentToken.objects.filter(name__in=[f"family {family}" for family in families])
    return {name.removeprefix("family ") for name in spent.values_list("name", flat=True)}


def is_of(token: Any, user: Any) -> bool:
    """Whether the user's password is unchanged since the token was issued."""
    return bool(token.get(api_settings.REVOKE_TOKEN_CLAIM) == get_md5_hash_password(user.password))


def spend(token: Any) -> None:
    """
    Mark a refresh token as used.

    Raises:
        TokenError: it was used before, or its family was signed out.
    """
    name, family = f"token {token[api_settings.JTI_CLAIM]}", name_of_family(token)
    try:
        with transaction.atomic():
            if SpentToken.objects.filter(name=family).exists():
                raise TokenError("Token has been revoked")
            _write(name, datetime_from_epoch(token["exp"]))
    except IntegrityError:
        spent_at = SpentToken.objects.values_list("spent_at", flat=True).get(name=name)
        if timezone.now() - spent_at > MERCY:
            sign_out(token)
        raise TokenError("Token has already been used") from None


def sign_out(token: Any) -> None:
    """End the family of a token. Repeating it does nothing."""
    end_family(name_of_family(token).removeprefix("family "))


def end_family(family: str) -> None:
    """End a family of tokens. Repeating it does nothing."""
    lifetime: Any = settings.SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"]
    try:
        with transaction.atomic():
            _write(f"family {family}", timezone.now() + lifetime)
    except IntegrityError:
        return


def _write(name: str, expires_at: datetime) -> None:
    bygone = SpentToken.objects.filter(expires_at__lt=timezone.now()).order_by("pk")
    ids = list(bygone.select_for_update(skip_locked=True).values_list("pk", flat=True)[:SWEEP])
    SpentToken.objects.filter(pk__in=ids).delete()
    SpentToken.objects.create(name=name, expires_at=expires_at)
