"""Registration and signing in."""

from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.middleware.csrf import get_token
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.generics import CreateAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from accounts.serializers import (
    LoginSerializer,
    RegistrationSerializer,
    SessionSerializer,
    TokensSerializer,
)
from store.once import once
from webhooks.sealing import seal, unseal


@extend_schema(summary="Register", tags=["users"])
class RegistrationView(CreateAPIView):
    """Register a user and a customer profile. A mail asks the user to confirm the address."""

    serializer_class = RegistrationSerializer
    permission_classes = [AllowAny]
    throttle_scope = "registration"

    @once()
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Register a user. A mail asks the user to confirm the address."""
        return self.create(request, *args, **kwargs)


@extend_schema(summary="Sign in", tags=["users"], responses=TokensSerializer)
class TokenView(TokenObtainPairView):
    """Exchange a username and a password for an access token and a refresh token."""

    throttle_scope = "login"

    @once(seal=seal, unseal=unseal)
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Exchange a username and a password for an access token and a refresh token."""
        return super().post(request, *args, **kwargs)


@extend_schema(summary="Stay signed in", tags=["users"], responses=TokensSerializer)
class RefreshView(TokenRefreshView):
    """Exchange a refresh token for new tokens, once; a second use revokes the tokens derived from it."""

    throttle_scope = "login"

    @once(seal=seal, unseal=unseal)
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """
        Exchange a refresh token for new tokens, once; a second use revokes the tokens derived from it.

        With an `Idempotency-Key` a client whose answer was lost gets the same tokens again.
        """
        return super().post(request, *args, **kwargs)


@method_decorator([never_cache, csrf_protect], name="dispatch")
class SessionView(APIView):
    """
    Sign in and out with a cookie that scripts cannot read, as the shop's pages do.

    Every write must send the value of the cookie ``csrftoken`` in the header ``X-CSRFToken``.
    """

    permission_classes = [AllowAny]

    def get_throttles(self) -> list[Any]:
        self.throttle_scope = "login" if self.request.method == "POST" else None
        return super().get_throttles()

    @extend_schema(tags=["users"], summary="Get the signed-in user", responses=SessionSerializer)
    def get(self, request: Request) -> Response:
        """Return the user who is signed in, and set the cookie ``csrftoken``."""
        get_token(request._request)
        return self.answer(request.user)

    @extend_schema(
        tags=["users"], summary="Sign in with a cookie", request=LoginSerializer, responses=SessionSerializer
    )
    def post(self, request: Request) -> Response:
        """Exchange a username and a password for a session."""
        wish = LoginSerializer(data=request.data, context={"request": request})
        wish.is_valid(raise_exception=True)
        return self.answer(wish.save())

    @extend_schema(tags=["users"], summary="Sign out", responses={204: None})
    def delete(self, request: Request) -> Response:
        """End the session."""
        logout(request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def answer(self, user: Any) -> Response:
        known = user if user.is_authenticated else None
        flower = settings.FLOWER_URL if known and known.is_staff else None
        return Response(SessionSerializer({"user": known, "flower_url": flower}).data)
