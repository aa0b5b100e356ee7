"""Passwords and signing out, over HTTP."""

from typing import Any

from django.contrib.auth import update_session_auth_hash
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError

from accounts import passwords, sign_ins, tokens
from accounts.mail_addresses import NoGoodLink
from accounts.serializers import (
    ForgottenSerializer,
    LogoutSerializer,
    PasswordChangeSerializer,
    PasswordResetSerializer,
    TokensSerializer,
)
from email_app.addresses import BadLink
from store.once import once


class ChangeView(APIView):
    throttle_scope = "passwords"

    @extend_schema(
        tags=["users"],
        summary="Change your password",
        request=PasswordChangeSerializer,
        responses={
            200: OpenApiResponse(TokensSerializer, description="New tokens, if the request used a token."),
            204: OpenApiResponse(description="The session continues, if the request used one."),
        },
    )
    def post(self, request: Request) -> Response:
        """Change your password. All other sessions and all tokens are revoked."""
        wish = PasswordChangeSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        if not passwords.is_own(request, wish.validated_data["old_password"]):
            raise ValidationError({"old_password": ["Wrong password."]})
        user: Any = request.user
        try:
            passwords.set_new(user, wish.validated_data["new_password"])
        except passwords.WeakPassword as error:
            raise ValidationError({"new_password": error.reasons}) from None
        return go_on(request, user)


def go_on(request: Request, user: Any) -> Response:
    """Keep this client signed in after everything else was revoked: 204 to a session, new tokens to a token."""
    if request.auth is None:
        update_session_auth_hash(request._request, user)
        sign_ins.note_session(request._request, user)
        return Response(status=status.HTTP_204_NO_CONTENT)
    pair = tokens.pair_for(user)
    sign_ins.note_tokens(request._request, user, tokens.family_of(pair))
    return Response(TokensSerializer(pair).data)


class ForgottenView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_scope = "passwords"

    @extend_schema(
        tags=["users"],
        summary="Request a password reset",
        request=ForgottenSerializer,
        responses={202: OpenApiResponse(description="If the account exists, a reset link is mailed to it.")},
    )
    @once()
    def post(self, request: Request) -> Response:
        """Request a password reset link by mail. The response is the same whether or not the account exists."""
        wish = ForgottenSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        passwords.ask_for_link(wish.validated_data["email"])
        return Response(status=status.HTTP_202_ACCEPTED)


class ResetView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_scope = "passwords"

    @extend_schema(tags=["users"], summary="Reset a password", request=PasswordResetSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """Set a new password with a mailed link. All sessions and tokens are revoked."""
        wish = PasswordResetSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            passwords.set_by_link(wish.validated_data["token"], wish.validated_data["new_password"])
        except BadLink:
            raise NoGoodLink from None
        except passwords.WeakPassword as error:
            raise ValidationError({"new_password": error.reasons}) from None
        return Response(status=status.HTTP_204_NO_CONTENT)


class LogoutView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_scope = "login"

    def get_authenticate_header(self, request: Request) -> str:
        """Return the `WWW-Authenticate` header of a 401; the view itself needs no authentication."""
        return 'Bearer realm="api"'

    @extend_schema(tags=["users"], summary="Revoke a token", request=LogoutSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """Revoke a refresh token, every token of the same sign-in, and their access tokens."""
        wish = LogoutSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            tokens.sign_out(tokens.RefreshToken(wish.validated_data["refresh"]))
        except TokenError as error:
            raise InvalidToken(error.args[0]) from None
        return Response(status=status.HTTP_204_NO_CONTENT)
