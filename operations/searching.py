"""``/api/ops/tasks/``: search tasks, read one task's timeline, and act on many after counting them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger import clock, databases
from celery_ledger.desk import decisions, lives, searching
from celery_ledger.desk.permissions import CANCEL, DISCARD, REPLAY
from celery_ledger.desk.searching import Search, State
from celery_ledger.models import Decision, DurableTask
from operations.ledgers import PARAMETER
from operations.permissions import MayOperate
from operations.serializers import MAX_REASON_LENGTH, MOST_IDS, SpanField
from web.fields import NumberField, StrictSerializer, StrictUUIDField, TextField

What = Decision.What
NEEDS = {What.REPLAY: REPLAY, What.RUN_NOW: REPLAY, What.DISCARD: DISCARD, What.CANCEL: CANCEL}


class SearchSerializer(StrictSerializer):
    """A search: tasks that meet every condition."""

    status = serializers.ChoiceField(
        choices=[str(state) for state in State], required=False, help_text="A status, or a kind of those pending."
    )
    task = TextField(required=False, max_length=255, help_text="A task's name.")
    queue = TextField(required=False, max_length=64)
    subject = TextField(required=False, max_length=64, help_text="What it is about, such as store.order:42.")
    request_id = TextField(required=False, max_length=64, help_text="The request that enqueued it.")
    argument = TextField(
        required=False,
        max_length=300,
        help_text="A value among its arguments, name=value, or a JSON object of names and values.",
    )
    error = TextField(required=False, max_length=200, help_text="Part of its last error.")
    newer_than = SpanField(required=False, help_text="Enqueued within this time, such as 15m, 6h or 7d.")
    older_than = SpanField(required=False, help_text="Enqueued before this time ago.")
    slower_than = SpanField(required=False, help_text="Minimum time from its last publishing to its end, or until now.")
    q = TextField(
        required=False,
        max_length=200,
        help_text="An id, an order number, a subject, name=value, or part of a name or of an error.",
    )


def search_of(given: Mapping[str, Any]) -> Search:
    """
    Return the search for the validated data of a SearchSerializer.

    Raises:
        ValidationError: the argument is empty or invalid.
    """
    newer, older, slower = (given.get(name) for name in ("newer_than", "older_than", "slower_than"))
    now = clock.now()
    words = given.get("q", "").strip()
    if words.removeprefix("#").isdecimal():
        words = f"store.order:{int(words.removeprefix('#'))}"
    plain = ("task", "queue", "subject", "request_id", "argument", "error")
    try:
        search = Search(
            state=given.get("status"),
            since=None if newer is None else now - newer,
            until=None if older is None else now - older,
            slower_than=None if slower is None else slower.total_seconds(),
            **{name: given[name] for name in plain if name in given},
        )
        return searching.meant_by(words, search)
    except (ValueError, OverflowError) as error:
        raise serializers.ValidationError({"argument": [str(error)]}) from None


class PageQuery(SearchSerializer):
    after = serializers.CharField(required=False, max_length=120, help_text="The end of the previous page.")
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=100, default=50)


class TaskSerializer(serializers.ModelSerializer[DurableTask]):
    """A task's current row in the ledger."""

    task = serializers.CharField(source="name")
    args = serializers.JSONField()
    kwargs = serializers.JSONField()
    enqueued_at = serializers.DateTimeField(source="created_at")
    next_at = serializers.SerializerMethodField(help_text="When it runs next; null: it is not waiting.")
    state = serializers.SerializerMethodField(help_text="Its status, or retrying or scheduled.")
    seconds = serializers.SerializerMethodField(help_text="From its last publishing to its end; null: not applicable.")

    class Meta:
        model = DurableTask
        fields = [
            "id",
            "task",
            "queue",
            "status",
            "state",
            "priority",
            "attempts",
            "subject",
            "request_id",
            "args",
            "kwargs",
            "enqueued_at",
            "next_at",
            "published_at",
            "completed_at",
            "expires_at",
            "seconds",
            "last_error",
            "canvas",
        ]
        read_only_fields = fields

    def get_next_at(self, task: DurableTask) -> str | None:
        return task.available_at.isoformat() if task.status == DurableTask.Status.PENDING else None

    def get_state(self, task: DurableTask) -> str:
        return searching.state_of(task, now=self.context.get("now"))

    def get_seconds(self, task: DurableTask) -> float | None:
        if task.completed_at is None or task.published_at is None:
            return None
        return round((task.completed_at - task.published_at).total_seconds(), 3)


class TaskPageSerializer(serializers.Serializer[Any]):
    """One page of results."""

    count = serializers.IntegerField()
    count_is = serializers.ChoiceField(
        choices=["exact", "estimate", "at least"], help_text="How well the count is known."
    )
    next = serializers.CharField(allow_null=True, help_text="The next page; null: this is the last one.")
    previous = serializers.CharField(allow_null=True, help_text="The first page; null: this is it.")
    after = serializers.CharField(
        allow_null=True, help_text="The value of after= for the next page; null: this is the last one."
    )
    looked_to = serializers.DateTimeField(
        allow_null=True,
        help_text="Rows examined so far, if there may be more; null: the page is full, or this is the last one.",
    )
    results = TaskSerializer(many=True)


class EventSerializer(serializers.Serializer[Any]):
    """An event in a task's life, past or scheduled."""

    at = serializers.DateTimeField()
    kind = serializers.CharField()
    text = serializers.CharField()
    attempt = serializers.IntegerField(allow_null=True)
    worker = serializers.CharField()
    traceback = serializers.CharField()
    took = serializers.FloatField(allow_null=True, help_text="Seconds since it was published.")
    is_ahead = serializers.BooleanField(help_text="It has not happened yet.")


class RelativeSerializer(serializers.Serializer[Any]):
    """A related task."""

    id = serializers.UUIDField()
    task = serializers.CharField(source="name")
    status = serializers.CharField()


class LifeSerializer(serializers.Serializer[Any]):
    """One task and its history."""

    task = TaskSerializer()
    events = EventSerializer(many=True, help_text="Oldest first; scheduled events come last.")
    result = serializers.CharField(allow_null=True, help_text="As JSON; null: no result is stored.")
    trace = serializers.CharField(help_text="The trace id of OpenTelemetry or Sentry; empty without a trace.")
    parent = RelativeSerializer(allow_null=True, help_text="The task whose body called it.")
    called = RelativeSerializer(many=True, help_text="The first tasks that its body called.")


class TasksView(APIView):
    """Search for tasks by any of their properties."""

    permission_classes = [MayOperate]

    @extend_schema(
        tags=["operations"],
        summary="Find tasks",
        parameters=[PageQuery],
        responses=TaskPageSerializer,
        operation_id="ops_tasks_list",
    )
    def get(self, request: Request) -> Response:
        """
        Return a page: newest first; retried and scheduled tasks by their next run, dead ones by their time of death.

        The search takes a limited time. If that is not enough for a full page, looked_to says how far back it has
        searched, and next continues from there. count_is says whether the count is exact.
        """
        query = PageQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        search, after = search_of(query.validated_data), query.validated_data.get("after")
        try:
            found = searching.page(search, after=after, size=query.validated_data["page_size"])
        except ValueError as error:
            raise serializers.ValidationError({"after": [str(error)]}) from None
        count = searching.count(search)
        page = {
            "count": count.rows,
            "count_is": count.is_,
            "next": None if found.after is None else _address(request, after=found.after),
            "previous": None if after is None else _address(request, after=None),
            "after": found.after,
            "looked_to": found.looked_to,
            "results": found.tasks,
        }
        return Response(TaskPageSerializer(page, context={"now": clock.now()}).data)


def _address(request: Request, *, after: str | None) -> str:
    query = request.query_params.copy()
    query.pop("after", None)
    if after is not None:
        query["after"] = after
    if databases.are_several():
        query[PARAMETER] = databases.current()
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


class TaskView(APIView):
    """The life of one task."""

    permission_classes = [MayOperate]

    @extend_schema(
        tags=["operations"], summary="Get a task's history", responses=LifeSerializer, operation_id="ops_tasks_retrieve"
    )
    def get(self, request: Request, task_id: UUID) -> Response:
        """
        Return the task's timeline, attempt by attempt, and its related tasks.

        Raises:
            NotFound: there is no such task.
        """
        life = lives.life_of(task_id)
        if life is None:
            raise NotFound("Task not found.")
        return Response(LifeSerializer(life, context={"now": clock.now()}).data)


class DecideSerializer(StrictSerializer):
    """An action and the tasks to which it applies: by ids or by a search."""

    what = serializers.ChoiceField(
        choices=[str(what) for what in What],
        help_text="run-now and cancel apply to waiting tasks, replay and discard to dead ones.",
    )
    ids = serializers.ListField(child=StrictUUIDField(), required=False, min_length=1, max_length=MOST_IDS)
    search = SearchSerializer(required=False)
    reason = TextField(
        required=False,
        max_length=MAX_REASON_LENGTH,
        help_text="Kept in the audit trail; required to cancel or discard.",
    )
    per_second = NumberField(
        required=False,
        min_value=0.01,
        max_value=10_000,
        help_text="How many become due per second; by default all at once.",
    )
    dry_run = serializers.BooleanField(
        required=False, default=False, help_text="true: only count the tasks that would be affected."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("search" in attrs):
            raise serializers.ValidationError("Name either ids or a search.")
        needs_reason = attrs["what"] in {What.CANCEL, What.DISCARD} and not attrs["dry_run"]
        if needs_reason and not attrs.get("reason", "").strip():
            raise serializers.ValidationError({"reason": ["Give a reason."]})
        return attrs


class ManyDecidedSerializer(serializers.Serializer[Any]):
    """How many tasks are affected, or would be."""

    count = serializers.IntegerField()
    count_is = serializers.ChoiceField(choices=["exact", "estimate", "at least"])
    decision = serializers.IntegerField(
        allow_null=True, help_text="A worker does it in batches; progress is at /api/ops/decisions/{decision}/."
    )


class DecideView(APIView):
    """Run an action on many tasks, or count how many that would be."""

    permission_classes = [MayOperate]

    @property
    def needs(self) -> str:
        """The permission that the user needs, which depends on the action."""
        data = self.request.data
        what = data.get("what") if isinstance(data, dict) else None
        return {str(each): needed for each, needed in NEEDS.items()}.get(str(what), CANCEL)

    @extend_schema(
        tags=["operations"],
        summary="Run an action on many tasks",
        request=DecideSerializer,
        responses={200: ManyDecidedSerializer, 202: ManyDecidedSerializer},
        operation_id="ops_tasks_decide",
    )
    def post(self, request: Request) -> Response:
        """
        Run now, cancel, replay or discard the tasks. With dry_run, only count them.

        Tasks to which the action does not apply are left alone and not counted. For many thousands of tasks, a worker
        carries it out in portions: the response is 202 and names the decision.
        """
        wish = DecideSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        given = wish.validated_data
        what = What(given["what"])
        how = {"reason": given.get("reason", ""), "per_second": given.get("per_second")}
        if "ids" in given:
            if given["dry_run"]:
                return _decided(decisions.applying(what, given["ids"]))
            return _decided(decisions.decide_on(what, given["ids"], **how))
        search = search_of(given["search"])
        if given["dry_run"]:
            count = decisions.preview(what, search)
            return _decided(count.rows, count_is=count.is_)
        done, decision = decisions.decide(what, search, **how)
        return _decided(done, decision=decision)


def _decided(count: int, *, count_is: str = "exact", decision: Decision | None = None) -> Response:
    answer = {"count": count, "count_is": count_is, "decision": decision and decision.pk}
    return Response(ManyDecidedSerializer(answer).data, HTTPStatus.ACCEPTED if decision else HTTPStatus.OK)
