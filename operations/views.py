"""``/api/ops/``: queues and dead letters, for staff. Every action is in the audit trail."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, NotFound
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger import clock
from celery_ledger.desk import cancelling, dead_letters, decisions, queues
from celery_ledger.desk.permissions import CANCEL, DISCARD, EDIT, REPLAY, STEER
from celery_ledger.models import Decision, DurableTask
from celery_ledger.watch import failing, figures, series, watchdog
from operations.permissions import MayOperate
from operations.serializers import (
    CancelSerializer,
    CountSerializer,
    DeadTaskSerializer,
    DecidedSerializer,
    DecisionSerializer,
    DiscardManySerializer,
    EditSerializer,
    FailingSerializer,
    FiguresQuery,
    FiguresSerializer,
    GroupSerializer,
    LimitsSerializer,
    MachineryProblemSerializer,
    QueueSerializer,
    ReasonSerializer,
    ReplayManySerializer,
    SeriesQuery,
    SeriesSerializer,
)


class NotDead(APIException):
    """The task is not dead, or no longer."""

    status_code = HTTPStatus.CONFLICT
    default_detail = "This task is not a dead letter (any more). Nothing was changed."
    problem = "not-dead"


@extend_schema(tags=["operations"], summary="List queues")
class QueuesView(ListAPIView[Any]):
    """The current depth of each queue."""

    permission_classes = [MayOperate]
    serializer_class = QueueSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return queues.queue_states()


class QueueActionView(APIView):
    """Changes one queue and returns it."""

    permission_classes = [MayOperate]
    needs = STEER

    def change(self, request: Request, queue: str) -> None:
        raise NotImplementedError

    def post(self, request: Request, queue: str) -> Response:
        """
        Change the queue.

        Raises:
            NotFound: there is no such queue.
        """
        try:
            self.change(request, queue)
        except ValueError as error:
            raise NotFound(str(error)) from None
        state = next(state for state in queues.queue_states() if state.queue == queue)
        return Response(QueueSerializer(state).data)


@extend_schema(tags=["operations"], summary="Pause a queue", request=None, responses=QueueSerializer)
class PauseView(QueueActionView):
    """Keep the queue's tasks in the ledger until it is resumed. Tasks already at the broker still run."""

    def change(self, request: Request, queue: str) -> None:
        queues.pause(queue)


@extend_schema(tags=["operations"], summary="Resume a queue", request=None, responses=QueueSerializer)
class ResumeView(QueueActionView):
    """Publish the queue's tasks again."""

    def change(self, request: Request, queue: str) -> None:
        queues.resume(queue)


@extend_schema(
    tags=["operations"],
    summary="Limit a queue",
    request=LimitsSerializer,
    responses=QueueSerializer,
)
class LimitsView(QueueActionView):
    """Limit how many of the queue's tasks start per second, and how many run at once, in the whole cluster."""

    def change(self, request: Request, queue: str) -> None:
        wish = LimitsSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        queues.limit(queue, **wish.validated_data)


@extend_schema(
    tags=["operations"],
    summary="Queue history",
    parameters=[SeriesQuery],
    responses=SeriesSerializer,
)
class SeriesView(APIView):
    """Depth, throughput and lag of every queue over the last hour, or the last ``minutes``."""

    permission_classes = [MayOperate]

    def get(self, request: Request) -> Response:
        query = SeriesQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        step = query.validated_data["step"]
        found = series.of_queues(minutes=query.validated_data["minutes"], step=step)
        return Response(SeriesSerializer({"step_seconds": step, "queues": found}).data)


@extend_schema(
    tags=["operations"],
    summary="Figures of queues and tasks",
    parameters=[FiguresQuery],
    responses=FiguresSerializer,
)
class FiguresView(APIView):
    """Throughput, failures, lag percentiles and run time over 15 minutes, 6 hours or 7 days, up to now."""

    permission_classes = [MayOperate]

    def get(self, request: Request) -> Response:
        query = FiguresQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        return Response(FiguresSerializer(figures.overview(**query.validated_data)).data)


@extend_schema(
    tags=["operations"],
    summary="List problems",
)
class ProblemsView(ListAPIView[Any]):
    """Problems with relays, workers, queues, schedules and the clock; empty if there are none."""

    permission_classes = [MayOperate]
    serializer_class = MachineryProblemSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return watchdog.problems()


@extend_schema(tags=["operations"], summary="List failing tasks")
class FailingView(ListAPIView[Any]):
    """Failing tasks: each is listed from its first failure until it succeeds again."""

    permission_classes = [MayOperate]
    serializer_class = FailingSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        now = clock.now()
        return [{**asdict(each), "text": each.in_words(now)} for each in failing.failing()]


class DeadQuery(serializers.Serializer[Any]):
    """Filters for dead letters."""

    task = serializers.CharField(required=False, max_length=255)
    queue = serializers.CharField(required=False, max_length=64)
    subject = serializers.CharField(required=False, max_length=64, help_text="Such as store.order:42.")
    search = serializers.CharField(required=False, max_length=200, help_text="Part of the error.")
    fingerprint = serializers.CharField(required=False, max_length=64, help_text="The fingerprint of a group.")


def wanted(request: Request) -> QuerySet[DurableTask]:
    """
    Return the dead letters that match the query of ``request``.

    Raises:
        ValidationError: it has an empty or overlong value.
    """
    query = DeadQuery(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return dead_letters.Selection(**query.validated_data).tasks()


@extend_schema(tags=["operations"], summary="List dead letters", parameters=[DeadQuery])
class DeadView(ListAPIView[DurableTask]):
    """Tasks that have no attempts left or can never succeed, longest dead first."""

    permission_classes = [MayOperate]
    serializer_class = DeadTaskSerializer
    queryset = DurableTask.objects.none()
    filter_backends = []

    def get_queryset(self) -> QuerySet[DurableTask]:
        return wanted(self.request)


@extend_schema(
    tags=["operations"],
    summary="Dead letters grouped by error",
    parameters=[DeadQuery],
)
class GroupsView(ListAPIView[Any]):
    """One row for each task and kind of error, the most frequent first."""

    permission_classes = [MayOperate]
    serializer_class = GroupSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return dead_letters.groups(wanted(self.request))


class DeadTaskActionView(APIView):
    """Acts on one dead letter and returns it."""

    permission_classes = [MayOperate]

    def answer(self, task_id: UUID, *, done: bool) -> Response:
        task = self.task(task_id)
        if not done:
            raise NotDead
        return Response(DeadTaskSerializer(task).data)

    def task(self, task_id: UUID) -> DurableTask:
        task = DurableTask.objects.filter(id=task_id).first()
        if task is None:
            raise NotFound("Task not found.")
        return task


class NotWaiting(NotDead):
    """The task is not waiting: it is running or has ended."""

    default_detail = "This task is running or has ended. Nothing was changed."
    problem = "not-waiting"


class CancelView(DeadTaskActionView):
    """Cancels a task before it runs or, if requested, while it runs."""

    needs = CANCEL

    @extend_schema(
        tags=["operations"],
        summary="Cancel a task",
        request=CancelSerializer,
        responses=DeadTaskSerializer,
    )
    def post(self, request: Request, task_id: UUID) -> Response:
        """
        Cancel a waiting task: it never runs, whatever restarts. 409 for a task that has ended.

        409 for a running task too, unless `terminate` is true: then its worker's process is killed, and the response is
        409 only if the task does not end within seconds.
        """
        wish = CancelSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        self.task(task_id)
        if not cancelling.cancel([task_id], **wish.validated_data):
            raise NotWaiting
        return self.answer(task_id, done=True)


class RunNowView(DeadTaskActionView):
    """Makes a task that is due later run now."""

    needs = REPLAY

    @extend_schema(tags=["operations"], summary="Run a task now", request=None, responses=DeadTaskSerializer)
    def post(self, request: Request, task_id: UUID) -> Response:
        """Make a waiting task due now. 409 for a task that is not waiting in the ledger."""
        self.task(task_id)
        if not queues.make_due(task_id):
            raise NotWaiting
        return self.answer(task_id, done=True)


class ReplayView(DeadTaskActionView):
    needs = REPLAY

    @extend_schema(
        tags=["operations"],
        summary="Replay a dead letter",
        request=EditSerializer,
        responses=DeadTaskSerializer,
    )
    def post(self, request: Request, task_id: UUID) -> Response:
        """
        Make a dead task pending again under the same id, with a few more attempts and, optionally, new arguments.

        409 for a task that is not dead. New arguments also require the permission to change tasks.
        """
        edit = EditSerializer(data=request.data)
        edit.is_valid(raise_exception=True)
        if not edit.validated_data:
            return self.answer(task_id, done=dead_letters.replay([task_id]) == 1)
        if not request.user.has_perm(EDIT):
            self.permission_denied(request)
        task = self.task(task_id)
        try:
            done = dead_letters.replay_edited(
                task_id,
                args=edit.validated_data.get("args", task.args),
                kwargs=edit.validated_data.get("kwargs", task.kwargs),
            )
        except TypeError as error:
            raise serializers.ValidationError({"args": [str(error)]}) from None
        except LookupError as error:
            raise serializers.ValidationError(str(error)) from None
        return self.answer(task_id, done=done)


class DiscardView(DeadTaskActionView):
    needs = DISCARD

    @extend_schema(
        tags=["operations"],
        summary="Discard a dead letter",
        request=ReasonSerializer,
        responses=DeadTaskSerializer,
    )
    def post(self, request: Request, task_id: UUID) -> Response:
        """Discard a dead task: it is cancelled and keeps the reason. 409 for a task that is not dead."""
        wish = ReasonSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        reason = wish.validated_data.get("reason", f"discarded by user {request.user.pk}")
        return self.answer(task_id, done=dead_letters.discard([task_id], reason=reason) == 1)


class DecideManyView(APIView):
    """Acts on many dead letters: immediately, or by a worker if there are too many."""

    permission_classes = [MayOperate]

    def decide(self, what: Decision.What, wish: Any, **how: Any) -> Response:
        count, decision = decisions.decide(what, wish.selection(), **how)
        return self.answer(count, decision)

    def answer(self, count: int, decision: Decision | None = None) -> Response:
        if decision is None:
            return Response(CountSerializer({"count": count}).data)
        return Response(DecidedSerializer({"count": count, "decision": decision.pk}).data, HTTPStatus.ACCEPTED)


class ReplayManyView(DecideManyView):
    needs = REPLAY

    @extend_schema(
        tags=["operations"],
        operation_id="ops_dead_replay_many",
        summary="Replay many dead letters",
        request=ReplayManySerializer,
        responses={200: CountSerializer, 202: DecidedSerializer},
    )
    def post(self, request: Request) -> Response:
        """
        Make dead tasks pending again, all at once or at a limited rate. Repeating the request replays each task once.

        A worker replays many thousands, in portions: the response is 202 and names the decision.
        """
        wish = ReplayManySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        rate = wish.validated_data.get("per_second")
        if "ids" in wish.validated_data:
            return self.answer(dead_letters.replay(wish.validated_data["ids"], per_second=rate))
        return self.decide(Decision.What.REPLAY, wish, per_second=rate)


class DiscardManyView(DecideManyView):
    needs = DISCARD

    @extend_schema(
        tags=["operations"],
        operation_id="ops_dead_discard_many",
        summary="Discard many dead letters",
        request=DiscardManySerializer,
        responses={200: CountSerializer, 202: DecidedSerializer},
    )
    def post(self, request: Request) -> Response:
        """
        Discard dead tasks: they are cancelled and keep the reason.

        A worker discards many thousands, in portions: the response is 202 and names the decision.
        """
        wish = DiscardManySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        reason = wish.validated_data["reason"]
        if "ids" in wish.validated_data:
            return self.answer(dead_letters.discard(wish.validated_data["ids"], reason=reason))
        return self.decide(Decision.What.DISCARD, wish, reason=reason)


@extend_schema(tags=["operations"], summary="List bulk decisions")
class DecisionsView(ListAPIView[Decision]):
    """Bulk decisions of the last month and their progress, newest first."""

    permission_classes = [MayOperate]
    serializer_class = DecisionSerializer
    queryset = Decision.objects.none()
    filter_backends = []

    def get_queryset(self) -> QuerySet[Decision]:
        return Decision.objects.order_by("-pk")


@extend_schema(tags=["operations"], summary="Get a bulk decision")
class DecisionView(RetrieveAPIView[Decision]):
    """One bulk decision and its progress."""

    permission_classes = [MayOperate]
    serializer_class = DecisionSerializer
    queryset = Decision.objects.none()
    filter_backends = []

    def get_queryset(self) -> QuerySet[Decision]:
        return Decision.objects.all()
