"""Serializers for webhook endpoints and deliveries. A secret is shown once, when it is created."""

import re
from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from web.fields import StrictSerializer, TextField, YesNoField
from webhooks.destinations import ForbiddenDestinationError, check_url
from webhooks.models import MAX_URL_LENGTH, Event, Version, WebhookAttempt, WebhookDelivery, WebhookEndpoint

#: The ports of the web's services, and those that are free.
_PORT: Final = (
    "(443|102[4-9]|10[3-9][0-9]|1[1-9][0-9]{2}|[2-9][0-9]{3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]"
    "|6553[0-5])"
)
#: A host's name or IPv4 address, a port, a path and a query in printable ASCII; neither a user nor a fragment.
URL: Final = rf"^https://[A-Za-z0-9][A-Za-z0-9.-]{{0,252}}(:{_PORT})?([/?][!-\"$-\[\]-~]*)?$"


@extend_schema_field(
    {
        "type": "string",
        "maxLength": MAX_URL_LENGTH,
        "pattern": URL,
        "description": "An https URL; the port must be 443, or 1024 or higher.",
    }
)
class UrlField(TextField):
    """A URL for webhooks, validated by its text alone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_URL_LENGTH, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """
        Return the URL.

        Raises:
            ValidationError: webhooks must not be sent there.
        """
        url = super().to_internal_value(data)
        try:
            check_url(url)
        except ForbiddenDestinationError as error:
            raise serializers.ValidationError(str(error)) from None
        if url.startswith("https://") and not re.fullmatch(URL, url):
            raise serializers.ValidationError("The URL must be a host name, optionally followed by a port or a path.")
        return url


class EventsField(serializers.ListField):
    """Names of events, without duplicates."""

    child = serializers.ChoiceField(choices=Event.choices)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=len(Event), help_text="The names of the events it receives.", **kwargs)

    def to_internal_value(self, data: Any) -> list[str]:
        """
        Return the names.

        Raises:
            ValidationError: a name is unknown, or there are too many.
        """
        names = super().to_internal_value(data)
        self.run_validators(names)
        return sorted(set(names))


class EndpointWishSerializer(StrictSerializer):
    """The settings of an endpoint."""

    url = UrlField()
    description = TextField(max_length=200, required=False, allow_blank=True)
    events = EventsField()
    ordered = YesNoField(required=False)
    version = serializers.ChoiceField(required=False, choices=Version.choices, help_text="The format of the messages.")
    active = YesNoField(required=False)


class WebhookEndpointSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    events = serializers.ListField(child=serializers.ChoiceField(choices=Event.choices))

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id",
            "url",
            "description",
            "events",
            "ordered",
            "version",
            "active",
            "owner",
            "created_at",
            "failing_since",
            "disabled_at",
            "previous_until",
        ]
        read_only_fields = fields


class NewSecretSerializer(WebhookEndpointSerializer):
    """An endpoint with its new secret."""

    class Meta(WebhookEndpointSerializer.Meta):
        fields = [*WebhookEndpointSerializer.Meta.fields, "secret"]
        read_only_fields = fields


class WebhookAttemptSerializer(serializers.ModelSerializer[WebhookAttempt]):
    class Meta:
        model = WebhookAttempt
        fields = ["at", "status_code", "milliseconds", "answer", "error"]
        read_only_fields = fields


class WebhookDeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    class Meta:
        model = WebhookDelivery
        fields = [
            "id",
            "endpoint",
            "message_id",
            "event",
            "subject",
            "status",
            "tries",
            "error",
            "created_at",
            "settled_at",
        ]
        read_only_fields = fields


class WebhookDeliveryDetailSerializer(WebhookDeliverySerializer):
    """A delivery with its body and the response to each attempt."""

    attempts = WebhookAttemptSerializer(many=True, read_only=True)

    class Meta(WebhookDeliverySerializer.Meta):
        fields = [*WebhookDeliverySerializer.Meta.fields, "body", "attempts"]
        read_only_fields = fields


class DeliveriesQuery(serializers.Serializer[dict[str, Any]]):
    """Filters for deliveries."""

    endpoint = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1, help_text="An endpoint's id.")
    status = serializers.ChoiceField(required=False, choices=WebhookDelivery.Status.choices)
