"""Serializers for registration, sign-in and passwords."""

import unicodedata
from typing import Any

from django.contrib.auth import authenticate, get_user_model, login
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.signals import user_logged_in
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError as InvalidPassword
from django.db import IntegrityError, transaction
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.serializers import TokenRefreshSerializer as SimpleTokenRefreshSerializer
from rest_framework_simplejwt.settings import api_settings

from accounts import sign_ins, tokens
from accounts.models import SignIn
from email_app import addresses
from web.fields import StrictSerializer, TextField


class PasswordField(TextField):
    """A password; leading and trailing blanks count."""

    def __init__(self, **kwargs: Any) -> None:
        style = {"input_type": "password"}
        super().__init__(max_length=128, write_only=True, trim_whitespace=False, style=style, **kwargs)


class RegistrationSerializer(StrictSerializer):
    """A new user."""

    id = serializers.IntegerField(read_only=True)
    username = TextField(max_length=150, validators=[UnicodeUsernameValidator()])
    email = serializers.EmailField(max_length=254)
    password = PasswordField()

    def validate_username(self, username: str) -> str:
        username = unicodedata.normalize("NFKC", username)
        if get_user_model().objects.filter(username__iexact=username).exists():
            raise serializers.ValidationError("This username is taken.")
        return username

    def validate_email(self, email: str) -> str:
        if get_user_model().objects.filter(email__iexact=email).exists():
            raise serializers.ValidationError("This address is already in use.")
        return email

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        likeness = get_user_model()(username=attrs["username"], email=attrs["email"])
        try:
            validate_password(attrs["password"], likeness)
        except InvalidPassword as error:
            raise serializers.ValidationError({"password": error.messages}) from error
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Any:
        """
        Register the user and create the customer profile, in one transaction.

        Until the user follows the mailed link, the address receives only requests to confirm it.

        Raises:
            ValidationError: the name or the address was taken a moment ago.
        """
        try:
            with transaction.atomic():
                user = get_user_model().objects.create_user(**validated_data)
                addresses.claim(user)
                return user
        except IntegrityError as error:
            self.run_validation(self.initial_data)  # Says which of the two is taken.
            raise serializers.ValidationError("This username or email address is already in use.") from error


class TokenObtainSerializer(StrictSerializer, TokenObtainPairSerializer):
    """A username and a password."""

    token_class = tokens.RefreshToken

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Like SimpleJWT's, but a password may begin or end with a blank."""
        super().__init__(*args, **kwargs)
        password: Any = self.fields["password"]
        password.trim_whitespace = False

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """
        Return the tokens, and send the signal that a user signed in.

        Raises:
            AuthenticationFailed: the password is wrong, or there is no such user. After too many failures, the
                middleware of django-axes answers 429 instead.
        """
        request = self.context["request"]._request
        self._context = {**self.context, "request": request}  # Axes marks the request that it is given.
        request.login_name = attrs[self.username_field]
        pair: dict[str, str] = super().validate(attrs)
        user_logged_in.send(sender=type(self.user), request=request, user=self.user)
        sign_ins.note_tokens(request, self.user, tokens.family_of(pair))
        return pair


class LoginSerializer(StrictSerializer):
    """A username and a password."""

    username = TextField(max_length=150)
    password = PasswordField()

    def save(self, **kwargs: Any) -> Any:
        """
        Sign the user in and return the user.

        Raises:
            AuthenticationFailed: the password is wrong, or there is no such user. After too many failures, the
                middleware of django-axes answers 429 instead.
        """
        request = self.context["request"]._request
        request.login_name = self.validated_data["username"]
        user = authenticate(request, **self.validated_data)
        if user is None:
            raise AuthenticationFailed("Wrong username or password.")
        login(request, user)
        return user


class MailedTokenSerializer(StrictSerializer):
    """The token of a mailed link."""

    token = TextField(max_length=500, help_text="The `token` in the mailed link.")


class AddressWishSerializer(StrictSerializer):
    """A new email address, and the current password."""

    password = PasswordField()
    email = serializers.EmailField(max_length=254)


class AddressSerializer(serializers.Serializer[Any]):
    email = serializers.CharField(help_text="The current email address.")
    verified = serializers.BooleanField(help_text="Whether the address has been verified.")
    wished = serializers.CharField(
        allow_null=True, help_text="The new address, until the change is confirmed at both addresses."
    )


class ConfirmedSerializer(serializers.Serializer[Any]):
    verified = serializers.BooleanField(
        help_text="Whether the address is verified; if not, the link sent to the other address must be followed too."
    )


class SignedInSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    is_staff = serializers.BooleanField()


class SessionSerializer(serializers.Serializer[Any]):
    user = SignedInSerializer(allow_null=True, help_text="The user who is signed in, or null.")
    flower_url = serializers.URLField(allow_null=True, help_text="The address of Flower; for staff.")


class TokenRefreshSerializer(StrictSerializer, SimpleTokenRefreshSerializer):
    """A refresh token."""

    refresh = TextField(trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """
        Return the next pair of tokens; this one cannot be used again.

        Raises:
            TokenError: it is invalid, was used, or was revoked.
            AuthenticationFailed: its user is gone, or has changed the password.
        """
        token = tokens.RefreshToken(attrs["refresh"])
        user = get_user_model().objects.filter(pk=token.get(api_settings.USER_ID_CLAIM), is_active=True).first()
        if user is None:
            raise AuthenticationFailed("The user of this token no longer exists.", "user_not_found")
        if not tokens.is_of(token, user):
            raise AuthenticationFailed("The user's password has been changed.", "password_changed")
        tokens.spend(token)
        sign_ins.note_refresh(token.get(tokens.FAMILY, ""))
        return tokens.pair_for(user, family=token.get(tokens.FAMILY, ""))


class LogoutSerializer(StrictSerializer):
    """A refresh token."""

    refresh = TextField(trim_whitespace=False, max_length=4000)


class PasswordChangeSerializer(StrictSerializer):
    """The current password, and a new one."""

    old_password = PasswordField()
    new_password = PasswordField()


class PasswordSerializer(StrictSerializer):
    """The current password."""

    password = PasswordField()


class SignInSerializer(serializers.ModelSerializer[SignIn]):
    current = serializers.SerializerMethodField(help_text="Whether it is the sign-in of this request.")

    class Meta:
        model = SignIn
        fields = ["id", "kind", "agent", "client", "created_at", "last_used_at", "expires_at", "current"]
        read_only_fields = fields

    def get_current(self, row: SignIn) -> bool:
        return sign_ins.is_current(row, self.context["request"])


class ForgottenSerializer(StrictSerializer):
    """The email address of an account."""

    email = serializers.EmailField(max_length=254)


class PasswordResetSerializer(StrictSerializer):
    """The token of a mailed link, and a new password."""

    token = TextField(max_length=500, help_text="The `token` in the mailed link.")
    new_password = PasswordField()


class TokensSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(
        help_text="Send it as `Authorization: Bearer ...`; it expires after half an hour by default."
    )
    refresh = serializers.CharField(help_text="Exchange it once, within a week, for a new pair.")
