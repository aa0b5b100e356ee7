"""What goes in and out where people register, sign in and ask for reports."""

import unicodedata
from datetime import date
from typing import Any

from django.contrib.auth import authenticate, get_user_model, login
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.signals import user_logged_in
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError as InvalidPassword
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.serializers import TokenRefreshSerializer as SimpleTokenRefreshSerializer

from store.fields import StrictSerializer, TextField
from worker.models import DurableTask


class RegistrationSerializer(StrictSerializer):
    """A new user."""

    id = serializers.IntegerField(read_only=True)
    username = TextField(max_length=150, validators=[UnicodeUsernameValidator()])
    email = serializers.EmailField(max_length=254)
    password = TextField(max_length=128, write_only=True, trim_whitespace=False, style={"input_type": "password"})

    def validate_username(self, username: str) -> str:
        username = unicodedata.normalize("NFKC", username)
        if get_user_model().objects.filter(username__iexact=username).exists():
            raise serializers.ValidationError("This username is taken.")
        return username

    def validate_email(self, email: str) -> str:
        if get_user_model().objects.filter(email__iexact=email).exists():
            raise serializers.ValidationError("This address is taken.")
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
        Register the user, with the customer profile that goes with it, in one transaction.

        Raises:
            ValidationError: somebody took the name or the address a moment ago.
        """
        try:
            with transaction.atomic():
                return get_user_model().objects.create_user(**validated_data)
        except IntegrityError as error:
            self.run_validation(self.initial_data)  # Says which of the two is taken.
            raise serializers.ValidationError("This username or address is taken.") from error


class TokenObtainSerializer(StrictSerializer, TokenObtainPairSerializer):
    """A username and a password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As SimpleJWT's, but that a password may begin or end with a blank."""
        super().__init__(*args, **kwargs)
        password: Any = self.fields["password"]
        password.trim_whitespace = False

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """
        Return the tokens, and have everybody hear that somebody signed in.

        Raises:
            AuthenticationFailed: the password is not this user's, or there is no such user. After too many
                of them, the middleware of django-axes answers a 429 in its place.
        """
        request = self.context["request"]._request
        self._context = {**self.context, "request": request}  # Axes marks the request that it is given.
        request.login_name = attrs[self.username_field]
        tokens: dict[str, str] = super().validate(attrs)
        user_logged_in.send(sender=type(self.user), request=request, user=self.user)
        return tokens


class LoginSerializer(StrictSerializer):
    """A username and a password."""

    username = TextField(max_length=150)
    password = TextField(max_length=128, write_only=True, trim_whitespace=False, style={"input_type": "password"})

    def save(self, **kwargs: Any) -> Any:
        """
        Sign the user in and return the user.

        Raises:
            AuthenticationFailed: the password is not this user's, or there is no such user. After too many
                of them, the middleware of django-axes answers a 429 in its place.
        """
        request = self.context["request"]._request
        request.login_name = self.validated_data["username"]
        user = authenticate(request, **self.validated_data)
        if user is None:
            raise AuthenticationFailed("There is no such user, or the password is another.")
        login(request, user)
        return user


class SignedInSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    is_staff = serializers.BooleanField()


class SessionSerializer(serializers.Serializer[Any]):
    user = SignedInSerializer(allow_null=True, help_text="Who is signed in, or null.")
    flower_url = serializers.URLField(allow_null=True, help_text="Where Flower is; for staff.")


class TokenRefreshSerializer(StrictSerializer, SimpleTokenRefreshSerializer):
    """A refresh token."""

    refresh = TextField(trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """As SimpleJWT's, but that the token of a user who is gone is a 401, not a crash."""
        try:
            return super().validate(attrs)
        except get_user_model().DoesNotExist:
            raise AuthenticationFailed("The user of this token no longer exists.", "user_not_found") from None


class TokensSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="Goes into `Authorization: Bearer ...` for an hour.")
    refresh = serializers.CharField(help_text="Gives new access tokens for a week.")


class AccessTokenSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="Goes into `Authorization: Bearer ...` for an hour.")


class ReportRequestSerializer(StrictSerializer):
    """The day that a report is about."""

    day = serializers.DateField(required=False, help_text="The day, in UTC; by default yesterday.")

    def validate_day(self, day: date) -> date:
        if not date(1970, 1, 1) <= day <= timezone.now().date():
            raise serializers.ValidationError("There can be no report of that day.")
        return day


class ProgressSerializer(serializers.Serializer[Any]):
    done = serializers.IntegerField()
    of = serializers.IntegerField()
    step = serializers.CharField()


class ReportSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.CharField(help_text="The durable task's: " + ", ".join(DurableTask.Status.values) + ".")
    progress = ProgressSerializer(allow_null=True, help_text="While it is running: how many steps are done.")
