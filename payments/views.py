"""``/api/payments/``: what the provider calls; and ``/api/orders/{id}/payment/``, what a customer asks."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from payments import settling
from payments.models import Payment
from payments.provider import Result
from payments.serializers import CallbackSerializer, PaymentSerializer
from store.contention import persist
from store.models import Order
from web.refusals import Refusal
from webhooks.signing import is_genuine


class AnotherAmount(Refusal):
    """The message is about another amount than the order costs."""

    problem = "another-amount"
    default_detail = "This is not what the order costs. Nothing was changed."


class CallbackView(APIView):
    """For the payment provider alone: messages are believed by their signature."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        """Return the header of a 401; the view itself needs no authentication."""
        return "Signature"

    @extend_schema(
        tags=["payments"],
        summary="Hear from the payment provider",
        request=CallbackSerializer,
        responses={204: None},
        parameters=[
            OpenApiParameter(name, str, OpenApiParameter.HEADER)
            for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        ],
    )
    def post(self, request: Request) -> Response:
        """Take a message that is signed as Standard Webhooks has it, once for each `webhook-id`. 401 for any other."""
        body, headers = request._request.body, request.headers
        if not settings.PAYMENT_SECRET or not is_genuine([settings.PAYMENT_SECRET], headers=headers, body=body):
            raise AuthenticationFailed("The signature is missing, wrong or too old.")
        told = CallbackSerializer(data=request.data)
        told.is_valid(raise_exception=True)
        facts: Any = told.validated_data["data"]
        result = Result(told.validated_data["type"].removeprefix("payment."))
        try:
            persist(
                lambda: settling.take_callback(
                    headers["webhook-id"],
                    reference=facts["reference"],
                    result=result,
                    amount=facts["amount"],
                    currency=facts["currency"],
                )
            )
        except Payment.DoesNotExist:
            raise NotFound("Payment not found.") from None
        except settling.WrongAmount:
            raise AnotherAmount from None
        return Response(status=status.HTTP_204_NO_CONTENT)


class PaymentView(APIView):
    @extend_schema(tags=["payments"], summary="Get the payment of an order", responses=PaymentSerializer)
    def get(self, request: Request, order_id: int) -> Response:
        """How far the payment of an order is. 404 for an order that needed none."""
        orders = Order.objects.visible_to(request.user).filter(pk=order_id)
        payment = Payment.objects.filter(order__in=orders).first()
        if payment is None:
            raise NotFound("Payment not found.")
        return Response(PaymentSerializer(payment).data)
