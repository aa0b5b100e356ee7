"""What goes in and out below ``/api/ops/``."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from celery_ledger.desk import dead_letters, queues, spans
from celery_ledger.models import Decision, DurableTask
from celery_ledger.rows.kinds import fingerprint_of_error
from web.fields import NumberField, StrictSerializer, StrictUUIDField, TextField, WholeNumberField

#: Tasks that one call decides about by their ids.
MOST_IDS = 1_000
MAX_REASON_LENGTH = 300


@extend_schema_field({"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h|d)$"})
class SpanField(serializers.Field[Any, Any, Any, Any]):
    """A span of time: a number and a unit, such as 90s, 15m, 6h or 7d."""

    default_error_messages = {"span": "This is a number and a unit, such as 90s, 15m, 6h or 7d."}

    def to_internal_value(self, data: Any) -> Any:
        try:
            return spans.read(data if isinstance(data, str) else "")
        except ValueError:
            self.fail("span")

    def to_representation(self, value: Any) -> str:
        return f"{value.total_seconds():g}s"


class QueueSerializer(serializers.Serializer[Any]):
    """A queue as it is now."""

    queue = serializers.CharField()
    pending = serializers.IntegerField(help_text="Tasks in the ledger, due now or later.")
    published = serializers.IntegerField(help_text="Tasks at the broker or held by a worker.")
    running = serializers.IntegerField(help_text="Claimed by a worker; only tasks with effects outside the database.")
    dead = serializers.IntegerField()
    retrying = serializers.IntegerField(help_text="Pending tasks that have failed and wait for another attempt.")
    oldest_pending_seconds = serializers.FloatField(
        allow_null=True, help_text="How long the oldest due task has been due; null: none is due."
    )
    completed_per_minute = serializers.IntegerField()
    paused = serializers.BooleanField()
    per_second = serializers.FloatField(allow_null=True, help_text="Tasks that may start per second; null: no limit.")
    concurrency = serializers.IntegerField(allow_null=True, help_text="Tasks that may run at once; null: no limit.")


class LimitsSerializer(StrictSerializer):
    """The limits of a queue, in the whole cluster; null or left out: none."""

    per_second = NumberField(allow_null=True, default=None, min_value=0.001, max_value=queues.MOST_PER_SECOND)
    concurrency = WholeNumberField(allow_null=True, default=None, min_value=1, max_value=queues.MOST_AT_ONCE)


class DeadTaskSerializer(serializers.ModelSerializer[DurableTask]):
    """A dead letter."""

    task = serializers.CharField(source="name")
    args = serializers.JSONField()
    kwargs = serializers.JSONField()
    enqueued_at = serializers.DateTimeField(source="created_at")
    fingerprint = serializers.SerializerMethodField(help_text="The group of errors it belongs to.")

    class Meta:
        model = DurableTask
        fields = [
            "id",
            "task",
            "queue",
            "status",
            "attempts",
            "subject",
            "args",
            "kwargs",
            "enqueued_at",
            "published_at",
            "completed_at",
            "last_error",
            "fingerprint",
        ]
        read_only_fields = fields

    def get_fingerprint(self, task: DurableTask) -> str:
        return fingerprint_of_error(task.name, task.last_error)


class GroupSerializer(serializers.Serializer[Any]):
    """Dead letters of one task whose errors differ in nothing but ids, numbers and quoted names."""

    fingerprint = serializers.CharField()
    task = serializers.CharField()
    error = serializers.CharField(help_text="The part that the errors have in common.")
    example = serializers.CharField(help_text="One of the errors.")
    count = serializers.IntegerField()
    first_at = serializers.DateTimeField(help_text="When the first of them died.")
    last_at = serializers.DateTimeField()


class EditSerializer(StrictSerializer):
    """Other arguments for a replay; what is left out stays as it is."""

    args = serializers.ListField(required=False, help_text="Positional arguments, in JSON.")
    kwargs = serializers.DictField(required=False, help_text="Keyword arguments, in JSON.")


class ReasonSerializer(StrictSerializer):
    reason = TextField(
        required=False, max_length=MAX_REASON_LENGTH, help_text="The reason, kept with the task and in the audit trail."
    )


class CancelSerializer(StrictSerializer):
    reason = TextField(max_length=MAX_REASON_LENGTH, help_text="The reason, kept with the task and in the audit trail.")
    terminate = serializers.BooleanField(
        required=False, help_text="true: a task that is running as well; its worker's process is killed."
    )


class SelectionSerializer(StrictSerializer):
    """Which dead letters: exactly one of these."""

    ids = serializers.ListField(child=StrictUUIDField(), required=False, min_length=1, max_length=MOST_IDS)
    fingerprint = TextField(required=False, max_length=64, help_text="The fingerprint of a group.")
    task = TextField(required=False, max_length=255, help_text="All dead letters of this task.")
    all = serializers.BooleanField(required=False, help_text="true: every dead letter.")

    def validate_all(self, everything: bool) -> bool:
        if everything is not True:
            raise serializers.ValidationError("This can only be true.")
        return everything

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs.keys() & {"ids", "fingerprint", "task", "all"}) != 1:
            raise serializers.ValidationError("Name exactly one of ids, fingerprint, task and all.")
        return attrs

    def selection(self) -> dead_letters.Selection:
        """Return what was named, where that is not ids."""
        wish = self.validated_data
        return dead_letters.Selection(task=wish.get("task"), fingerprint=wish.get("fingerprint"))


class ReplayManySerializer(SelectionSerializer):
    per_second = NumberField(
        required=False,
        min_value=dead_letters.SLOWEST,
        max_value=dead_letters.FASTEST,
        help_text="Replay at this rate, longest dead first; by default all at once.",
    )


class DiscardManySerializer(SelectionSerializer):
    reason = TextField(
        max_length=MAX_REASON_LENGTH, help_text="The reason, kept with the tasks and in the audit trail."
    )


class CountSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(
        help_text="Number of dead letters changed; tasks that were no longer dead are not counted."
    )


class DecidedSerializer(serializers.Serializer[Any]):
    """Too many for one answer: a worker decides about them."""

    count = serializers.IntegerField(help_text="Number of dead letters.")
    decision = serializers.IntegerField(help_text="Progress is at /api/ops/decisions/{decision}/.")


class DecisionSerializer(serializers.ModelSerializer[Decision]):
    """What somebody decided about many dead letters, and how far that is."""

    percent = serializers.IntegerField(read_only=True)

    class Meta:
        model = Decision
        fields = [
            "id",
            "what",
            "selection",
            "reason",
            "per_second",
            "who",
            "wanted",
            "done",
            "percent",
            "begun_at",
            "moved_at",
            "ended_at",
        ]
        read_only_fields = fields


class PointSerializer(serializers.Serializer[Any]):
    """A queue at one moment, and what was done since the moment before."""

    at = serializers.DateTimeField()
    pending = serializers.IntegerField()
    published = serializers.IntegerField()
    running = serializers.IntegerField()
    dead = serializers.IntegerField()
    retrying = serializers.IntegerField()
    oldest_pending_seconds = serializers.FloatField(allow_null=True)
    messages = serializers.IntegerField(
        allow_null=True, help_text="Messages waiting at the broker; null: it could not be reached."
    )
    completed_per_minute = serializers.FloatField(help_text="Since the point before.")
    failed_per_minute = serializers.FloatField(help_text="Attempts that failed, since the point before.")
    lag_seconds = serializers.FloatField(
        allow_null=True, help_text="Mean time from due to done of the tasks completed since; null: none were."
    )


class QueueSeriesSerializer(serializers.Serializer[Any]):
    queue = serializers.CharField()
    points = PointSerializer(many=True, help_text="Oldest first. A gap: no relay ran.")


class SeriesSerializer(serializers.Serializer[Any]):
    step_seconds = serializers.IntegerField()
    queues = QueueSeriesSerializer(many=True)


class SeriesQuery(serializers.Serializer[Any]):
    minutes = serializers.IntegerField(default=60, min_value=1, max_value=1_440, help_text="How many minutes back.")
    step = serializers.ChoiceField(choices=[10, 30, 60, 300], default=30, help_text="Seconds between points.")


class FailingSerializer(serializers.Serializer[Any]):
    """A task that fails: none of its calls has succeeded since."""

    task = serializers.CharField()
    queue = serializers.CharField()
    since = serializers.DateTimeField(help_text="When the first attempt failed after which none succeeded.")
    last_at = serializers.DateTimeField(help_text="When the last attempt failed.")
    failed = serializers.IntegerField(help_text="Attempts that failed since.")
    error = serializers.CharField(help_text="The first line of the last error.")
    text = serializers.CharField(help_text="All of it in a sentence.")


class MachineryProblemSerializer(serializers.Serializer[Any]):
    """Something that a person should look at."""

    part = serializers.CharField(help_text="relay, workers, queues, schedules or clock.")
    text = serializers.CharField()
