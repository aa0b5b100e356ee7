"""``/api/payments/``: the provider's callback; and ``/api/orders/{id}/payment/``, a customer's payment."""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from payments import paying, settling
from payments.models import Payment
from payments.provider import Result
from payments.serializers import CallbackSerializer, PaymentSerializer
from store.contention import persist
from store.customers import customer_of
from store.models import Order
from store.once import once
from web.fields import NothingSerializer
from web.refusals import Refusal
from webhooks.signing import is_genuine


class AnotherAmount(Refusal):
    """The amount in the message is not the order's total."""

    problem = "another-amount"
    default_detail = "This is not the order's total. Nothing was changed."


class NotPayable(Refusal):
    """The order is no longer waiting for its payment."""

    problem = "not-payable"
    default_detail = "This order is no longer waiting for a payment. Nothing was charged."


class CallbackView(APIView):
    """For the payment provider only: messages are authenticated by their signature."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        """Return the header of a 401; the view itself needs no authentication."""
        return "Signature"

    @extend_schema(
        tags=["payments"],
        summary="Receive an event from the payment provider",
        request=CallbackSerializer,
        responses={204: None},
        parameters=[
            OpenApiParameter(name, str, OpenApiParameter.HEADER)
            for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        ],
    )
    def post(self, request: Request) -> Response:
        """Accept a message signed according to Standard Webhooks, once per `webhook-id`. 401 for any other."""
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
        """The status of an order's payment, and until when its stock is reserved. 404 if there is no payment."""
        return Response(PaymentSerializer(_find(Order.objects.visible_to(request.user), order_id)).data)

    @extend_schema(
        tags=["payments"],
        summary="Pay for an order",
        request=NothingSerializer,
        responses={202: PaymentSerializer},
    )
    @once()
    def post(self, request: Request, order_id: int) -> Response:
        """
        Charge the customer through the provider. Repeating the request does not charge again.

        The order is `placed` once it is paid. If the last payment was declined (`declined_at`), this request starts
        another try. 409 if the order is no longer waiting for its payment.
        """
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        payment = _find(Order.objects.filter(customer=customer_of(request.user)), order_id)
        try:
            asked = persist(lambda: paying.ask(payment.pk))
        except paying.NotPayable:
            raise NotPayable from None
        return Response(PaymentSerializer(asked).data, status=status.HTTP_202_ACCEPTED)


def _find(orders: QuerySet[Order], order_id: int) -> Payment:
    payment = Payment.objects.filter(order__in=orders.filter(pk=order_id)).first()
    if payment is None:
        raise NotFound("Payment not found.")
    return payment
