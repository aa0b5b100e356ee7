"""The ``webhooks`` section of the OpenAPI document; core/settings.py names this module."""

from typing import Any

from drf_spectacular.utils import OpenApiWebhook, extend_schema
from rest_framework import serializers

from webhooks.models import TEST, Event


class Message(serializers.Serializer[dict[str, Any]]):
    """The fields of every message."""

    type = serializers.CharField(help_text="The event.")
    version = serializers.IntegerField(required=False, help_text="Since version 2.")
    timestamp = serializers.DateTimeField(help_text="When it happened.")


class OrderLineFacts(serializers.Serializer[dict[str, Any]]):
    product = serializers.IntegerField()
    sku = serializers.CharField()
    quantity = serializers.IntegerField()
    unit_price = serializers.DecimalField(max_digits=12, decimal_places=2)
    title = serializers.CharField(required=False, help_text="Since version 2.")
    total = serializers.DecimalField(
        max_digits=18, decimal_places=2, required=False, help_text="The price of the whole line; since version 2."
    )


class OrderFacts(serializers.Serializer[dict[str, Any]]):
    id = serializers.IntegerField()
    status = serializers.CharField(help_text="As it was when this happened.")
    customer = serializers.IntegerField()
    placed_at = serializers.DateTimeField()
    total = serializers.DecimalField(max_digits=18, decimal_places=2)
    currency = serializers.CharField()
    items = OrderLineFacts(many=True)


class OrderMessage(Message):
    data = OrderFacts()  # type: ignore[assignment]


class StockFacts(serializers.Serializer[dict[str, Any]]):
    product = serializers.IntegerField()
    sku = serializers.CharField()
    title = serializers.CharField()
    low_stock_threshold = serializers.IntegerField()


class StockMessage(Message):
    data = StockFacts()  # type: ignore[assignment]


class PriceFacts(serializers.Serializer[dict[str, Any]]):
    product = serializers.IntegerField()
    sku = serializers.CharField()
    title = serializers.CharField()
    old = serializers.DecimalField(max_digits=12, decimal_places=2)
    new = serializers.DecimalField(max_digits=12, decimal_places=2)
    currency = serializers.CharField()


class PriceMessage(Message):
    data = PriceFacts()  # type: ignore[assignment]


class TestFacts(serializers.Serializer[dict[str, Any]]):
    webhook = serializers.IntegerField(help_text="The endpoint's id.")


class TestMessage(Message):
    data = TestFacts()  # type: ignore[assignment]


def _describe(event: str, message: type[Message], summary: str) -> OpenApiWebhook:
    return OpenApiWebhook(
        name=str(event),
        decorator=extend_schema(tags=["webhooks"], summary=summary, request=message, responses={204: None}),
    )


order_created = _describe(Event.ORDER_CREATED, OrderMessage, "An order was placed")
order_cancelled = _describe(Event.ORDER_CANCELLED, OrderMessage, "An order was cancelled")
order_settled = _describe(Event.ORDER_SETTLED, OrderMessage, "An order's stock was settled")
stock_low = _describe(Event.STOCK_LOW, StockMessage, "A product is low in stock")
price_changed = _describe(Event.PRICE_CHANGED, PriceMessage, "A product's price changed")
test = _describe(TEST, TestMessage, "Staff sent a test")
