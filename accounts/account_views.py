"""A user's sign-ins and personal data: list, export, end, delete."""

from typing import Any, Final

from django.contrib.auth import logout
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import passwords, personal, sign_ins
from accounts.models import SignIn
from accounts.password_views import go_on
from accounts.serializers import PasswordSerializer, SignInSerializer, TokensSerializer
from audit_trail import audit
from audit_trail.models import AuditEntry
from web.refusals import Refusal

#: Some of what an export holds, as the API's documentation shows it.
EXPORT: Final = {
    "user": {"id": 42, "username": "ada", "email": "ada@shop.example"},
    "orders": [
        {
            "id": 1001,
            "status": "pending",
            "placed_at": "2026-11-21T12:00:00.250000Z",
            "total": "49.00",
            "currency": "GBP",
        }
    ],
    "order_items": [{"order_id": 1001, "product_id": 7, "quantity": 2, "unit_price": "24.50"}],
    "sign_ins": [],
}


class AccountNotDeletable(Refusal):
    """The account is still in use."""

    problem = "account-not-deletable"
    default_detail = "This account cannot be deleted."


class SignInsView(GenericAPIView[Any]):
    queryset = SignIn.objects.none()

    @extend_schema(tags=["users"], summary="List your sign-ins", responses=SignInSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Your active sessions and tokens, newest first."""
        page: Any = self.paginate_queryset(sign_ins.of_user(request.user))
        rows = SignInSerializer(page, many=True, context=self.get_serializer_context())
        return self.get_paginated_response(rows.data)


class SignInView(APIView):
    @extend_schema(tags=["users"], summary="Sign out elsewhere", responses={204: None})
    def delete(self, request: Request, id: int) -> Response:
        """End one of your sessions, or revoke a token together with all tokens of the same sign-in."""
        user: Any = request.user
        row = SignIn.objects.filter(pk=id, user=user).first()
        if row is None:
            raise NotFound("Sign-in not found.")
        sign_ins.end(row)
        return Response(status=status.HTTP_204_NO_CONTENT)


class EverywhereView(APIView):
    throttle_scope = "passwords"

    @extend_schema(
        tags=["users"],
        summary="Sign out everywhere else",
        request=PasswordSerializer,
        responses={
            200: OpenApiResponse(TokensSerializer, description="New tokens, if the request used a token."),
            204: OpenApiResponse(description="The session continues, if the request used one."),
        },
    )
    def post(self, request: Request) -> Response:
        """End all your sessions and revoke all your tokens, except the one that makes the request."""
        password = _own_password(request)
        user: Any = request.user
        passwords.salt_anew(user, password)
        audit.write(AuditEntry.What.CHANGED, user, after={"signed_out": "everywhere"})
        return go_on(request, user)


class ExportView(APIView):
    throttle_scope = "passwords"

    @extend_schema(
        tags=["customers"],
        summary="Export your data",
        responses=OpenApiTypes.OBJECT,
        examples=[OpenApiExample("part of an export", value=EXPORT, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """All data that the shop stores about you, as one JSON document."""
        headers = {"Content-Disposition": 'attachment; filename="my-data.json"', "Cache-Control": "no-store"}
        return Response(personal.export(request.user), headers=headers)


class DeletionView(APIView):
    throttle_scope = "passwords"

    @extend_schema(tags=["customers"], summary="Delete your account", request=PasswordSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """
        Delete your account and its personal data permanently.

        Your orders are kept for accounting, without your name or address.
        """
        _own_password(request)
        try:
            personal.delete(request.user)
        except personal.NotDeletable as error:
            raise AccountNotDeletable(str(error)) from None
        if request.auth is None:
            logout(request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _own_password(request: Request) -> str:
    wish = PasswordSerializer(data=request.data)
    wish.is_valid(raise_exception=True)
    password = str(wish.validated_data["password"])
    if not passwords.is_own(request, password):
        raise ValidationError({"password": ["Wrong password."]})
    return password
