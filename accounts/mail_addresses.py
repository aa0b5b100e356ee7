"""A user's email address over HTTP: its state, its verification and its change."""

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import passwords
from accounts.serializers import AddressSerializer, AddressWishSerializer, ConfirmedSerializer, MailedTokenSerializer
from celery_ledger.faults import crash_point
from email_app import addresses, tasks
from email_app.models import AddressClaim
from email_app.receivers import enqueue_address_checks
from store.customers import AddressTaken, TooManyAddresses
from store.once import once
from web.fields import NothingSerializer
from web.refusals import Refusal

ENOUGH = "Too many verification emails were requested. Try again later."


class NoGoodLink(Refusal):
    """A mailed link that is forged, used or expired."""

    status_code = status.HTTP_400_BAD_REQUEST
    problem = "no-good-link"
    default_detail = "This link is invalid, has expired or has already been used. Request a new one."


class NothingToConfirm(Refusal):
    """The address is verified, and no change is pending."""

    problem = "nothing-to-confirm"
    default_detail = "Your address is already verified, and no change is pending."


class AddressView(APIView):
    @extend_schema(tags=["users"], summary="Get your email address", responses=AddressSerializer)
    def get(self, request: Request) -> Response:
        """The current address, whether it is verified, and the new address if a change is pending."""
        return Response(_state(request.user))


class VerifyView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_scope = "mailed_links"

    @extend_schema(
        tags=["users"],
        summary="Verify an email address",
        request=MailedTokenSerializer,
        responses=ConfirmedSerializer,
    )
    def post(self, request: Request) -> Response:
        """
        Redeem a mailed link. Each works once; to change a verified address, redeem the links sent to both.

        Once the address is verified, the mails of the last week that were held for it are sent.
        """
        wish = MailedTokenSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            with transaction.atomic():
                user, verified = addresses.confirm(wish.validated_data["token"])
                if verified:
                    tasks.release_mails.delay(user.pk)
                crash_point("accounts.before_confirmed")
            crash_point("accounts.after_confirmed")
        except addresses.BadLink:
            raise NoGoodLink from None
        except AddressTaken:
            raise ValidationError({"token": ["Another account has taken this address in the meantime."]}) from None
        return Response(ConfirmedSerializer({"verified": verified}).data)


class ResendView(APIView):
    throttle_scope = "mailed_links"

    @extend_schema(
        tags=["users"],
        summary="Resend the verification emails",
        request=NothingSerializer,
        responses={202: AddressSerializer},
    )
    @once()
    def post(self, request: Request) -> Response:
        """Send the links again that have not been followed. At most five times an hour."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        try:
            with transaction.atomic():
                claim = addresses.ask_again(request.user)
                enqueue_address_checks(claim)
        except TooManyAddresses as error:
            raise Throttled(error.wait, ENOUGH) from None
        if claim is None:
            raise NothingToConfirm
        return Response(_state(request.user), status=status.HTTP_202_ACCEPTED)


class ChangeView(APIView):
    throttle_scope = "passwords"

    @extend_schema(
        tags=["users"],
        summary="Change your email address",
        request=AddressWishSerializer,
        responses={202: AddressSerializer},
    )
    @once()
    def post(self, request: Request) -> Response:
        """
        Change your email address.

        A verified address stays until the links sent to both are followed; an unverified one is replaced at once.
        """
        wish = AddressWishSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        user: Any = request.user
        if not passwords.is_own(request, wish.validated_data["password"]):
            raise ValidationError({"password": ["Wrong password."]})
        try:
            with transaction.atomic():
                enqueue_address_checks(addresses.wish(user, wish.validated_data["email"]))
        except AddressTaken:
            raise ValidationError({"email": ["This address is already in use."]}) from None
        except TooManyAddresses as error:
            raise Throttled(error.wait, ENOUGH) from None
        return Response(_state(user), status=status.HTTP_202_ACCEPTED)


def _state(user: Any) -> dict[str, Any]:
    user.refresh_from_db(fields=["email"])
    claim = AddressClaim.objects.filter(user=user).first()
    verified = claim is None or claim.email != user.email
    wished = claim.email if claim and verified else None
    return dict(AddressSerializer({"email": user.email, "verified": verified, "wished": wished}).data)
