"""Serializers for ``/api/ops/``."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from celery_ledger.contrib.beat import timetable
from celery_ledger.desk import crew, dead_letters, limits, queues, spans
from celery_ledger.models import Decision, DurableTask, Heartbeat, Mark
from celery_ledger.rows.kinds import fingerprint_of_error
from celery_ledger.watch import figures
from web.fields import NumberField, StrictSerializer, StrictUUIDField, TextField, WholeNumberField

#: How many tasks one call may decide about by their ids.
MOST_IDS = 1_000
MAX_REASON_LENGTH = 300


@extend_schema_field({"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h|d)$"})
class SpanField(serializers.Field[Any, Any, Any, Any]):
    """A span of time: a number and a unit, such as 90s, 15m, 6h or 7d."""

    default_error_messages = {"span": "Enter a number and a unit, such as 90s, 15m, 6h or 7d."}

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


class LimitSerializer(serializers.Serializer[Any]):
    """A limit of a queue, of a task or by a key, and what it holds back."""

    kind = serializers.ChoiceField(choices=limits.KINDS, help_text="What it limits: a queue, a task, or a key.")
    name = serializers.CharField(help_text="The queue, the task, or the key, such as webhooks.endpoint:3.")
    per_second = serializers.FloatField(allow_null=True, help_text="Tasks that may start per second; null: no limit.")
    concurrency = serializers.IntegerField(allow_null=True, help_text="Tasks that may run at once; null: no limit.")
    said = serializers.CharField(help_text="The rate as it was set, such as 10/m; empty: there is none.")
    by_operator = serializers.BooleanField(help_text="Whether a person set it; otherwise the code or a setting did.")
    under_way = serializers.IntegerField(
        allow_null=True, help_text="Tasks that count against the concurrency now; null: they are not counted."
    )
    held_back = serializers.IntegerField(source="held_back.rows", help_text="Due tasks that wait behind the limit.")
    held_back_is = serializers.ChoiceField(
        source="held_back.is_", choices=["exact", "at least"], help_text="How exact held_back is."
    )
    until = serializers.DateTimeField(
        allow_null=True, help_text="When the last of these may start; null: none waits, or no rate decides it."
    )


class RateSerializer(StrictSerializer):
    """The rate of a task, in the whole cluster."""

    rate = TextField(
        allow_null=True, max_length=64, help_text="Such as 10/s, 100/m or 5/h; 0: no limit; null: as the code says."
    )


class TaskRateSerializer(serializers.Serializer[Any]):
    """The rate of a task."""

    task = serializers.CharField()
    rate = serializers.CharField(allow_null=True, help_text="The rate set instead of the code's; null: none.")
    own_rate = serializers.CharField(allow_null=True, help_text="The rate in the code; null: no limit.")


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
    """New arguments for a replay; those left out stay unchanged."""

    args = serializers.ListField(required=False, help_text="Positional arguments, in JSON.")
    kwargs = serializers.DictField(required=False, help_text="Keyword arguments, in JSON.")


class ReasonSerializer(StrictSerializer):
    reason = TextField(
        required=False, max_length=MAX_REASON_LENGTH, help_text="The reason, kept with the task and in the audit trail."
    )


class CancelSerializer(StrictSerializer):
    reason = TextField(max_length=MAX_REASON_LENGTH, help_text="The reason, kept with the task and in the audit trail.")
    terminate = serializers.BooleanField(
        required=False, help_text="true: also a running task; its worker's process is killed."
    )


class SelectionSerializer(StrictSerializer):
    """A selection of dead letters: exactly one of these fields."""

    ids = serializers.ListField(child=StrictUUIDField(), required=False, min_length=1, max_length=MOST_IDS)
    fingerprint = TextField(required=False, max_length=64, help_text="The fingerprint of a group.")
    task = TextField(required=False, max_length=255, help_text="All dead letters of this task.")
    all = serializers.BooleanField(required=False, help_text="true: every dead letter.")

    def validate_all(self, everything: bool) -> bool:
        if everything is not True:
            raise serializers.ValidationError("Must be true.")
        return everything

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs.keys() & {"ids", "fingerprint", "task", "all"}) != 1:
            raise serializers.ValidationError("Name exactly one of ids, fingerprint, task and all.")
        return attrs

    def selection(self) -> dead_letters.Selection:
        """Return the selection, unless it is a list of ids."""
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
    """Too many for one request: a worker carries out the decision."""

    count = serializers.IntegerField(help_text="Number of dead letters.")
    decision = serializers.IntegerField(help_text="Progress is at /api/ops/decisions/{decision}/.")


class DecisionSerializer(serializers.ModelSerializer[Decision]):
    """A bulk decision about dead letters, and its progress."""

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
    """A queue at one moment, and its throughput since the previous point."""

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
    completed_per_minute = serializers.FloatField(help_text="Since the previous point.")
    failed_per_minute = serializers.FloatField(help_text="Attempts that failed since the previous point.")
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
    """A failing task: none of its calls has succeeded since its first failure."""

    task = serializers.CharField()
    queue = serializers.CharField()
    since = serializers.DateTimeField(help_text="When the first attempt of the current series failed.")
    last_at = serializers.DateTimeField(help_text="When the last attempt failed.")
    failed = serializers.IntegerField(help_text="Attempts that failed since.")
    error = serializers.CharField(help_text="The first line of the last error.")
    text = serializers.CharField(help_text="A summary in one sentence.")


class MachineryProblemSerializer(serializers.Serializer[Any]):
    """A problem that needs attention."""

    part = serializers.CharField(help_text="relay, workers, queues, schedules or clock.")
    text = serializers.CharField()
    stalled = serializers.CharField(help_text="The process to restart, if that would help; empty: none.")


class DoingSerializer(serializers.Serializer[Any]):
    """A message that a worker is running."""

    task = serializers.CharField()
    tasks = serializers.IntegerField(help_text="Tasks that share the message.")
    id = serializers.CharField(help_text="The first of them.")
    seconds = serializers.FloatField(help_text="How long it had run at the last heartbeat.")


class ProcessSerializer(serializers.Serializer[Any]):
    """A worker, relay or beat, as of its last heartbeat (every five seconds)."""

    process = serializers.CharField(help_text="Such as worker 4711 at host-1.")
    kind = serializers.ChoiceField(choices=Heartbeat.Kind.choices)
    machine = serializers.CharField()
    state = serializers.CharField(help_text="ok, draining, drained, silent, or what is wrong.")
    problem = serializers.CharField(help_text="The problem in one sentence; empty: none.")
    wish = serializers.CharField(help_text="The pending instruction: drain, stop, or empty.")
    started_at = serializers.DateTimeField()
    beaten_at = serializers.DateTimeField()
    silent_seconds = serializers.FloatField(help_text="Seconds since its last heartbeat.")
    queues = serializers.ListField(child=serializers.CharField())
    active = serializers.IntegerField(help_text="Messages that a worker is processing.")
    received = serializers.IntegerField(help_text="Messages that a worker has accepted since it started.")
    release = serializers.CharField(help_text="The project's release; empty: not set.")
    memory = serializers.IntegerField(
        allow_null=True, help_text="Bytes of memory, including its children; null: unknown."
    )
    doing = DoingSerializer(many=True, help_text="A worker's running messages, longest first, at most twenty.")


class TellSerializer(StrictSerializer):
    """An instruction to a process."""

    what = serializers.ChoiceField(
        choices=sorted(crew.WISHES),
        help_text="drain: take no more messages. resume: take them again. stop: finish the current ones and exit.",
    )


class FiguresQuery(serializers.Serializer[Any]):
    span = serializers.ChoiceField(choices=list(figures.SPANS), default="15m")
    queue = serializers.CharField(required=False, max_length=64, help_text="Points of this queue alone.")
    task = serializers.CharField(required=False, max_length=255, help_text="Points of this task alone.")


class LagsSerializer(serializers.Serializer[Any]):
    lag_p50 = serializers.FloatField(allow_null=True, help_text="Seconds from due to done; null: nothing was done.")
    lag_p95 = serializers.FloatField(allow_null=True)
    lag_p99 = serializers.FloatField(allow_null=True, help_text="3600: an hour or more.")


class LineSerializer(LagsSerializer):
    """A queue, or a task of a queue, over the span."""

    queue = serializers.CharField()
    task = serializers.CharField(help_text="Empty: the whole queue.")
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Attempts that failed: those that were retried and those that died.")
    retried = serializers.IntegerField()
    dead = serializers.IntegerField()
    per_minute = serializers.FloatField()
    run_seconds = serializers.FloatField(allow_null=True, help_text="Average run time of a task; null: unknown.")


class FiguresPointSerializer(LagsSerializer):
    """The work done between the previous point and this one."""

    at = serializers.DateTimeField()
    succeeded_per_minute = serializers.FloatField()
    failed_per_minute = serializers.FloatField()


class MarkSerializer(serializers.Serializer[Any]):
    """A new release, or a queue that was paused, resumed or limited."""

    at = serializers.DateTimeField()
    kind = serializers.ChoiceField(choices=Mark.Kind.choices)
    text = serializers.CharField()


class FiguresSerializer(serializers.Serializer[Any]):
    span = serializers.ChoiceField(choices=list(figures.SPANS))
    since = serializers.DateTimeField(
        allow_null=True, help_text="When the span begins; null: no relay has recorded figures yet."
    )
    points = FiguresPointSerializer(many=True, help_text="Oldest first.")
    queues = LineSerializer(many=True)
    tasks = LineSerializer(many=True, help_text="Tasks that ran or failed.")
    marks = MarkSerializer(many=True)


class RunSerializer(serializers.Serializer[Any]):
    """A run of a schedule."""

    task_id = serializers.CharField()
    due_at = serializers.DateTimeField()
    enqueued_at = serializers.DateTimeField()
    status = serializers.CharField(help_text="Of its task; empty: the ledger has pruned it.")
    took_seconds = serializers.FloatField(allow_null=True, help_text="From published to ended; null: not ended.")
    error = serializers.CharField(help_text="The first line of its last error.")


class ScheduleSerializer(serializers.Serializer[Any]):
    """A schedule, with its latest runs and its next due times, at most five each."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    task = serializers.CharField()
    queue = serializers.CharField(help_text="Empty: the task's own.")
    times = serializers.CharField(help_text="In words, such as every 5 minutes.")
    enabled = serializers.BooleanField(help_text="false: it is paused.")
    catch_up = serializers.CharField(help_text="What happens to missed due times: skip, once or all.")
    last_run_at = serializers.DateTimeField(allow_null=True)
    next_due = serializers.ListField(child=serializers.DateTimeField())
    late_since = serializers.DateTimeField(allow_null=True, help_text="The due time that has not run; null: not late.")
    problem = serializers.CharField(help_text="Why it can never run; empty if it can.")
    runs = RunSerializer(many=True, help_text="Newest first.")


class TellScheduleSerializer(StrictSerializer):
    """An action on a schedule."""

    what = serializers.ChoiceField(
        choices=sorted(timetable.DECISIONS),
        help_text="run-now: once, in addition to its due times. pause: switch it off. resume: switch it on, from now.",
    )
