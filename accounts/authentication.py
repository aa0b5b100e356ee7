"""Authentication by bearer token, which reads the customer's profile in the same query."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import BooleanField, Exists, Value
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.authentication import JWTAuthentication

from accounts.models import SpentToken
from accounts.tokens import FAMILY, name_of_family


class BearerAuthentication(JWTAuthentication):
    """
    SimpleJWT's authentication, except that the user comes with the profile, which most requests need.

    The same query says whether the token was signed out; SimpleJWT checks that the password has not changed since.
    """

    def get_user(self, validated_token: Any) -> Any:
        """
        Return the token's user.

        Raises:
            AuthenticationFailed: there is no such user any more, with this password, or the token was signed out.
        """
        signed_out: Any = Value(False, output_field=BooleanField())
        if FAMILY in validated_token:
            signed_out = Exists(SpentToken.objects.filter(name=name_of_family(validated_token)))
        self.user_model: Any = _WithProfile(get_user_model(), signed_out)
        user: Any = super().get_user(validated_token)
        if user.signed_out:
            raise AuthenticationFailed("This token has been revoked.", "signed_out")
        return user


class _WithProfile:
    """A user model as ``JWTAuthentication`` uses it: ``objects`` and ``DoesNotExist``."""

    def __init__(self, model: Any, signed_out: Any) -> None:
        self.objects = model.objects.select_related("customer").annotate(signed_out=signed_out)
        self.DoesNotExist = model.DoesNotExist
