"""Strict serializer fields, and a base class, that accept only what the contract allows."""

from typing import Any
from uuid import UUID

from rest_framework import serializers

MAX_ID = 2**63 - 1


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer that refuses fields which it does not know or does not let a client write."""

    def to_internal_value(self, data: Any) -> Any:
        """
        Validate ``data``.

        Raises:
            ValidationError: names each unknown field, and what is wrong with the known ones.
        """
        unknown: dict[str, Any] = {}
        if isinstance(data, dict):
            writable = {field.field_name for field in self._writable_fields}
            unknown = {name: ["Unknown field."] for name in data if name not in writable}
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if unknown and isinstance(error.detail, dict):
                error.detail.update(unknown)
            raise
        if unknown:
            raise serializers.ValidationError(unknown)
        return value


class NothingSerializer(StrictSerializer):
    """A request that has nothing to say beyond its address."""


class TextField(serializers.CharField):
    """A JSON string: not ``0``, not ``1.5``."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class WholeNumberField(serializers.IntegerField):
    """A JSON integer: not ``true``, not ``1.0``, not ``"1"``."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return data


class NumberField(serializers.FloatField):
    """A JSON number: not ``true``, not ``"1"``."""

    def to_internal_value(self, data: Any) -> float:
        if type(data) not in {int, float}:
            self.fail("invalid")
        return super().to_internal_value(data)


class IdField(WholeNumberField):
    """The id of an object."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=MAX_ID, **kwargs)


class StrictUUIDField(serializers.UUIDField):
    """A UUID written as a string."""

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class YesNoField(serializers.BooleanField):
    """A JSON boolean: not ``1``, not ``"true"``."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data
