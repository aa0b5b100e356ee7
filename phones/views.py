"""A user's phone number over HTTP: its state and its verification by code."""

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger.models import Priority
from phones import tasks, verification
from phones.models import CODE_DIGITS
from phones.numbers import e164
from store.customers import customer_of
from store.models import Customer
from store.once import once
from web.fields import NothingSerializer, StrictSerializer
from web.refusals import Refusal


class NothingToVerify(Refusal):
    """There is no number, or it is verified."""

    problem = "nothing-to-verify"
    default_detail = "No phone number to verify. Add one to your profile first."


class NumberNotServed(Refusal):
    """No SMS is sent to such a number."""

    problem = "number-not-served"
    default_detail = "We cannot send SMS to this number: its country is not supported, or it is not a personal number."


class NoGoodCode(Refusal):
    """No code can be correct now."""

    problem = "no-code"
    default_detail = "No valid code: it was used, has expired, or was entered wrongly too often. Request a new one."


class CodeSerializer(StrictSerializer):
    """The code sent to a number."""

    code = serializers.RegexField(rf"^[0-9]{{{CODE_DIGITS}}}$", help_text="The code received by SMS.")


class PhoneSerializer(serializers.Serializer[Any]):
    phone = serializers.CharField(help_text="Empty if none is set.")
    verified = serializers.BooleanField()
    served = serializers.BooleanField(help_text="Whether SMS can be sent to this number.")


class PhoneView(APIView):
    @extend_schema(tags=["users"], summary="Get your phone number", responses=PhoneSerializer)
    def get(self, request: Request) -> Response:
        """Your phone number, and whether it is verified. A code is sent when you set it in your profile."""
        return Response(_state(customer_of(request.user)))


class CodeView(APIView):
    @extend_schema(
        tags=["users"],
        summary="Resend the verification code",
        request=NothingSerializer,
        responses={202: PhoneSerializer},
    )
    @once()
    def post(self, request: Request) -> Response:
        """Send a new code to the user's number. At most five are sent in an hour, fewer under high demand."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        customer = customer_of(request.user)
        try:
            with transaction.atomic():
                row = verification.make_code(customer)
                tasks.send_code.apply_async((row.pk,), priority=Priority.HIGH)
        except verification.NotServed:
            raise NumberNotServed from None
        except verification.NoPhone:
            raise NothingToVerify from None
        except verification.TooManyCodes as error:
            raise Throttled(error.wait, "Too many codes were requested. Try again later.") from None
        return Response(_state(customer), status=status.HTTP_202_ACCEPTED)


class VerifyView(APIView):
    @extend_schema(
        tags=["users"], summary="Verify your phone number", request=CodeSerializer, responses=PhoneSerializer
    )
    def post(self, request: Request) -> Response:
        """Verify your number with the code sent to it. A code allows five attempts."""
        wish = CodeSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        customer = customer_of(request.user)
        try:
            verification.check(customer, wish.validated_data["code"])
        except verification.NoCode:
            raise NoGoodCode from None
        except verification.WrongCode as error:
            raise ValidationError({"code": [f"Wrong code. Attempts left: {error.left}."]}) from None
        return Response(_state(customer))


def _state(customer: Customer) -> dict[str, Any]:
    state = {
        "phone": customer.phone,
        "verified": verification.is_verified(customer),
        "served": bool(e164(customer.phone)),
    }
    return dict(PhoneSerializer(state).data)
