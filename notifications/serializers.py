"""Serializers for notifications and notification preferences."""

from typing import Any
from zoneinfo import available_timezones

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from rest_framework import serializers

from notifications.models import MAX_ENDPOINT_LENGTH, Channel, Kind, Notification
from notifications.push_services import NoPushServiceError, check_endpoint
from notifications.vapid import decode
from web.fields import StrictSerializer, TextField, YesNoField


class NotificationSerializer(serializers.ModelSerializer[Notification]):
    class Meta:
        model = Notification
        fields = ["id", "kind", "message", "data", "created", "read"]
        read_only_fields = fields


class ReadAllSerializer(serializers.Serializer[Any]):
    read = serializers.IntegerField(help_text="How many notifications were unread.")


def _of_fields(name: str, doc: str, fields: dict[str, serializers.Field]) -> type[StrictSerializer]:
    """Return a serializer class with a field for each choice."""
    return type(name, (StrictSerializer,), {"__doc__": doc, "__module__": __name__, **fields})


ChannelsSerializer = _of_fields(
    "ChannelsSerializer", "Channels, on or off.", {channel: YesNoField(required=False) for channel in Channel.values}
)
KindsSerializer = _of_fields(
    "KindsSerializer",
    "Channels by what a notification is about.",
    {kind: ChannelsSerializer(required=False) for kind in Kind.values},
)


class QuietHoursSerializer(StrictSerializer):
    """If the end is earlier than the start, the period spans midnight."""

    start = serializers.TimeField(format="%H:%M", input_formats=["%H:%M"])
    end = serializers.TimeField(format="%H:%M", input_formats=["%H:%M"])
    time_zone = TextField(max_length=64, default="UTC", help_text="Such as Europe/London.")

    def validate_time_zone(self, name: str) -> str:
        if name not in available_timezones():
            raise serializers.ValidationError("Unknown time zone.")
        return name

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["start"] == attrs["end"]:
            raise serializers.ValidationError({"end": ["Quiet hours must not begin and end at the same time."]})
        return attrs


class KeysSerializer(StrictSerializer):
    p256dh = TextField(max_length=100, help_text="The browser's public key: 65 bytes in base64url.")
    auth = TextField(max_length=32, help_text="Its secret: 16 bytes in base64url.")

    def validate_p256dh(self, text: str) -> str:
        try:
            EllipticCurvePublicKey.from_encoded_point(SECP256R1(), decode(text))
        except ValueError:
            raise serializers.ValidationError("This is not a public key of the curve P-256.") from None
        return text

    def validate_auth(self, text: str) -> str:
        try:
            secret = decode(text)
        except ValueError:
            secret = b""
        if len(secret) != 16:
            raise serializers.ValidationError("This is not 16 bytes in base64url.")
        return text


class EndpointSerializer(StrictSerializer):
    endpoint = TextField(max_length=MAX_ENDPOINT_LENGTH, help_text="As returned by the browser's Push API.")

    def validate_endpoint(self, endpoint: str) -> str:
        try:
            check_endpoint(endpoint)
        except NoPushServiceError as error:
            raise serializers.ValidationError(str(error)) from None
        return endpoint


class SubscriptionSerializer(EndpointSerializer):
    """A browser's `PushSubscription.toJSON()`."""

    expirationTime = serializers.IntegerField(required=False, allow_null=True, write_only=True)  # noqa: N815 - the browser's word
    keys = KeysSerializer(write_only=True)


class PublicKeySerializer(serializers.Serializer[Any]):
    public_key = serializers.CharField(help_text="The `applicationServerKey`: 65 bytes in base64url.")


class PreferencesSerializer(StrictSerializer):
    kinds = KindsSerializer(required=False, help_text="Settings that are left out stay unchanged.")
    quiet_hours = QuietHoursSerializer(
        required=False, allow_null=True, help_text="When mails, push notifications and SMS are held back. Null: never."
    )


class ChannelsOnSerializer(serializers.Serializer[Any]):
    """The channels that are on for a kind of notification."""

    channels = serializers.ListField(child=serializers.ChoiceField(choices=Channel.choices))
