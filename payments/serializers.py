"""Serializers for payments."""

from typing import Any

from rest_framework import serializers

from payments.models import Payment
from payments.provider import Result


class PaymentSerializer(serializers.ModelSerializer[Payment]):
    class Meta:
        model = Payment
        fields = ["status", "amount", "currency", "asked_at", "declined_at", "expires_at", "paid_at", "refunded_at"]
        read_only_fields = fields


class PaymentFactsSerializer(serializers.Serializer[Any]):
    """A payment's reference and amount."""

    reference = serializers.UUIDField()
    amount = serializers.DecimalField(max_digits=18, decimal_places=2)
    currency = serializers.RegexField(r"^[A-Z]{3}\Z")


class CallbackSerializer(serializers.Serializer[Any]):
    """A message from the provider. Other fields are ignored."""

    type = serializers.ChoiceField(choices=[f"payment.{result}" for result in (Result.PAID, Result.DECLINED)])
    data = PaymentFactsSerializer()  # type: ignore[assignment]
