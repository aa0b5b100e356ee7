"""Serializers for sales reports."""

from datetime import date
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from celery_ledger.models import DurableTask
from web.fields import StrictSerializer


class ReportRequestSerializer(StrictSerializer):
    """The day of a report."""

    day = serializers.DateField(required=False, help_text="The day, in UTC; defaults to yesterday.")

    def validate_day(self, day: date) -> date:
        if not date(1970, 1, 1) <= day <= timezone.now().date():
            raise serializers.ValidationError("Choose a day between 1970-01-01 and today.")
        return day


class ProgressSerializer(serializers.Serializer[Any]):
    done = serializers.IntegerField()
    of = serializers.IntegerField()
    step = serializers.CharField()


class ReportSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.CharField(
        help_text="The status of the durable task: " + ", ".join(DurableTask.Status.values) + "."
    )
    progress = ProgressSerializer(allow_null=True, help_text="How many steps are done, while it is running.")
