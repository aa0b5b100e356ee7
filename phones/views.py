"""One's own number, over HTTP: whether it is verified, and the code that verifies it."""

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from phones import tasks, verification
from phones.models import CODE_DIGITS
from store.customers import customer_of
from store.fields import StrictSerializer
from store.models import Customer
from store.refusals import Refusal
from store.serializers import NothingSerializer
from worker.models import Priority


class NothingToVerify(Refusal):
    """There is no number, or it is verified."""

    problem = "nothing-to-verify"
    default_detail = "There is no telephone number to verify. Set one in your profile first."


class NoGoodCode(Refusal):
    """No code could be right."""

    problem = "no-code"
    default_detail = "There is no code to check: it was used, or is too old, or was tried too often. Ask for another."


class CodeSerializer(StrictSerializer):
    """The code that came to a number."""

    code = serializers.RegexField(rf"^[0-9]{{{CODE_DIGITS}}}$", help_text="As it came by SMS.")


class PhoneSerializer(serializers.Serializer[Any]):
    phone = serializers.CharField(help_text="Empty where there is none.")
    verified = serializers.BooleanField()


class PhoneView(APIView):
    @extend_schema(tags=["users"], summary="One's own telephone number", responses=PhoneSerializer)
    def get(self, request: Request) -> Response:
        """Whether one's number was shown to be one's own. It is set in the profile, and a code goes out then."""
        return Response(_state(customer_of(request.user)))


class CodeView(APIView):
    @extend_schema(
        tags=["users"], summary="Have another code sent", request=NothingSerializer, responses={202: PhoneSerializer}
    )
    def post(self, request: Request) -> Response:
        """Have another code sent to one's number. At most five go out in an hour."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        customer = customer_of(request.user)
        try:
            with transaction.atomic():
                row = verification.make_code(customer)
                tasks.send_code.apply_async((row.pk,), priority=Priority.HIGH)
        except verification.NoPhone:
            raise NothingToVerify from None
        except verification.TooManyCodes as error:
            raise Throttled(error.wait, "Enough codes were sent for now.") from None
        return Response(_state(customer), status=status.HTTP_202_ACCEPTED)


class VerifyView(APIView):
    @extend_schema(
        tags=["users"], summary="Verify one's telephone number", request=CodeSerializer, responses=PhoneSerializer
    )
    def post(self, request: Request) -> Response:
        """Show that a number is one's own, by the code that was sent to it. Each code bears five tries."""
        wish = CodeSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        customer = customer_of(request.user)
        try:
            verification.check(customer, wish.validated_data["code"])
        except verification.NoCode:
            raise NoGoodCode from None
        except verification.WrongCode as error:
            raise ValidationError({"code": [f"This is not the code. Tries left: {error.left}."]}) from None
        return Response(_state(customer))


def _state(customer: Customer) -> dict[str, Any]:
    return dict(PhoneSerializer({"phone": customer.phone, "verified": verification.is_verified(customer)}).data)
