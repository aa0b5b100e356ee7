"""``/api/ops/``: the queues and the dead letters, for staff. Every decision is in the audit trail."""

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
from celery_ledger.watch import failing, series, watchdog
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
    """The task is not dead, or not any more: there is nothing to decide about it."""

    status_code = HTTPStatus.CONFLICT
    default_detail = "This task is not a dead letter (any more). Nothing was changed."
    problem = "not-dead"


@extend_schema(tags=["operations"], summary="List queues")
class QueuesView(ListAPIView[Any]):
    """How much is where, as of now."""

    permission_classes = [MayOperate]
    serializer_class = QueueSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return queues.queue_states()


class QueueActionView(APIView):
    """Changes one queue and answers with it."""

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
    """Keep the queue's tasks in the ledger until it is resumed. What is at the broker already still runs."""

    def change(self, request: Request, queue: str) -> None:
        queues.pause(queue)


@extend_schema(tags=["operations"], summary="Resume a queue", request=None, responses=QueueSerializer)
class ResumeView(QueueActionView):
    """Let the queue's tasks go again."""

    def change(self, request: Request, queue: str) -> None:
        queues.resume(queue)


@extend_schema(
    tags=["operations"],
    summary="Limit a queue",
    request=LimitsSerializer,
    responses=QueueSerializer,
)
class LimitsView(QueueActionView):
    """Say how many of the queue's tasks may begin a second, and be under way at once, in the whole cluster."""

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
    """Depth, throughput and lag of every queue over the last hour, or as far back as ``minutes`` says."""

    permission_classes = [MayOperate]

    def get(self, request: Request) -> Response:
        query = SeriesQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        step = query.validated_data["step"]
        found = series.of_queues(minutes=query.validated_data["minutes"], step=step)
        return Response(SeriesSerializer({"step_seconds": step, "queues": found}).data)


@extend_schema(
    tags=["operations"],
    summary="List problems",
)
class ProblemsView(ListAPIView[Any]):
    """What the watchdog finds wrong with relays, workers, queues, schedules and clock; empty if all is well."""

    permission_classes = [MayOperate]
    serializer_class = MachineryProblemSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return watchdog.problems()


@extend_schema(tags=["operations"], summary="List failing tasks")
class FailingView(ListAPIView[Any]):
    """Tasks that fail now and have not succeeded since they began to; a task is here from its first failure on."""

    permission_classes = [MayOperate]
    serializer_class = FailingSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        now = clock.now()
        return [{**asdict(each), "text": each.in_words(now)} for each in failing.failing()]


class DeadQuery(serializers.Serializer[Any]):
    """Which dead letters a client wants to see."""

    task = serializers.CharField(required=False, max_length=255)
    queue = serializers.CharField(required=False, max_length=64)
    subject = serializers.CharField(required=False, max_length=64, help_text="Such as store.order:42.")
    search = serializers.CharField(required=False, max_length=200, help_text="Part of the error.")
    fingerprint = serializers.CharField(required=False, max_length=64, help_text="The fingerprint of a group.")


def wanted(request: Request) -> QuerySet[DurableTask]:
    """
    Return the dead letters that the query of ``request`` names.

    Raises:
        ValidationError: it has an empty or overlong value.
    """
    query = DeadQuery(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return dead_letters.Selection(**query.validated_data).tasks()


@extend_schema(tags=["operations"], summary="List dead letters", parameters=[DeadQuery])
class DeadView(ListAPIView[DurableTask]):
    """Tasks whose attempts are used up or that can never succeed, longest dead first."""

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
    """Decides about one dead letter and answers with it."""

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
    """The task does not wait: a worker has it in its hands, or it has ended."""

    default_detail = "This task is running or has ended. Nothing was changed."
    problem = "not-waiting"


class CancelView(DeadTaskActionView):
    """Ends a task for good: before it has run, or, if so asked, while it runs."""

    needs = CANCEL

    @extend_schema(
        tags=["operations"],
        summary="Cancel a task",
        request=CancelSerializer,
        responses=DeadTaskSerializer,
    )
    def post(self, request: Request, task_id: UUID) -> Response:
        """
        End it for good: it never runs, whatever restarts. A task that has ended is a 409.

        So is one that is running, unless it is to be terminated: then the process of its worker is killed, and it is
        a 409 only if it did not end within seconds.
        """
        wish = CancelSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        self.task(task_id)
        if not cancelling.cancel([task_id], **wish.validated_data):
            raise NotWaiting
        return self.answer(task_id, done=True)


class RunNowView(DeadTaskActionView):
    """Has a task that is due later run now."""

    needs = REPLAY

    @extend_schema(tags=["operations"], summary="Run a task now", request=None, responses=DeadTaskSerializer)
    def post(self, request: Request, task_id: UUID) -> Response:
        """Make it due. A task that does not wait in the ledger is a 409."""
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
        Make it pending again under the same id, with a few more attempts; with other arguments if some are given.

        A task that is not dead is a 409. Other arguments take the permission to change tasks as well.
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
        """Give it up for good: it is cancelled, and keeps the reason. A task that is not dead is a 409."""
        wish = ReasonSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        reason = wish.validated_data.get("reason", f"discarded by user {request.user.pk}")
        return self.answer(task_id, done=dead_letters.discard([task_id], reason=reason) == 1)


class DecideManyView(APIView):
    """Decides about many dead letters, at once or, where they are too many for one answer, by a worker."""

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
        Make them pending again, all at once or at a bounded rate. Asking twice replays each once.

        Many thousands are replayed by a worker, in portions: the answer is a 202 and names the decision.
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
        Give them up for good: they are cancelled, and keep the reason.

        Many thousands are discarded by a worker, in portions: the answer is a 202 and names the decision.
        """
        wish = DiscardManySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        reason = wish.validated_data["reason"]
        if "ids" in wish.validated_data:
            return self.answer(dead_letters.discard(wish.validated_data["ids"], reason=reason))
        return self.decide(Decision.What.DISCARD, wish, reason=reason)


@extend_schema(tags=["operations"], summary="List bulk decisions")
class DecisionsView(ListAPIView[Decision]):
    """What people decided about many dead letters in the last month, newest first, and how far each is."""

    permission_classes = [MayOperate]
    serializer_class = DecisionSerializer
    queryset = Decision.objects.order_by("-pk")
    filter_backends = []


@extend_schema(tags=["operations"], summary="Get a bulk decision")
class DecisionView(RetrieveAPIView[Decision]):
    """What was decided, and how far it is."""

    permission_classes = [MayOperate]
    serializer_class = DecisionSerializer
    queryset = Decision.objects.all()
    filter_backends = []
