"""Serializers for messages and blocked users."""

from typing import Any

from django.contrib.auth import get_user_model
from rest_framework import serializers

from messaging.models import MAX_CONTENT_LENGTH, Block, Message
from web.fields import StrictSerializer, TextField


class PersonField(TextField):
    """Another active user, by username."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=150, trim_whitespace=False, help_text="A username.", **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        """
        Return the user.

        Raises:
            ValidationError: there is no such user, or it is the user who asks.
        """
        name = super().to_internal_value(data)
        self.run_validators(name)
        person = get_user_model()._default_manager.filter(username=name, is_active=True).first()
        if person is None:
            raise serializers.ValidationError("There is no user with this name.")
        if person == self.context["request"].user:
            raise serializers.ValidationError("You cannot choose yourself.")
        return person

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Validate like any field, except that the validators check the name, not the user."""
        is_empty, data = self.validate_empty_values(data)
        if not is_empty and data == "":
            self.fail("blank")
        return data if is_empty else self.to_internal_value(data)


class NewMessageSerializer(StrictSerializer):
    receiver = PersonField()
    content = TextField(max_length=MAX_CONTENT_LENGTH)


class MessageSerializer(serializers.ModelSerializer[Message]):
    sender = serializers.CharField(source="sender.username", help_text="A username.")
    receiver = serializers.CharField(source="receiver.username", help_text="A username.")

    class Meta:
        model = Message
        fields = ["id", "sender", "receiver", "content", "timestamp", "read_at"]
        read_only_fields = fields


class NewBlockSerializer(StrictSerializer):
    username = PersonField()


class BlockSerializer(serializers.ModelSerializer[Block]):
    username = serializers.CharField(source="blocked.username")

    class Meta:
        model = Block
        fields = ["id", "username", "created_at"]
        read_only_fields = fields
