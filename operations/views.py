"""``/api/ops/``: the queues and the dead letters, for staff. Every decision is in the audit trail."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, NotFound
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from operations import series
from operations.permissions import DISCARD, EDIT, REPLAY, STEER, MayOperate
from operations.serializers import (
    CountSerializer,
    DeadTaskSerializer,
    DiscardManySerializer,
    EditSerializer,
    GroupSerializer,
    LimitsSerializer,
    MachineryProblemSerializer,
    QueueSerializer,
    ReasonSerializer,
    ReplayManySerializer,
    SeriesQuery,
    SeriesSerializer,
)
from worker import dead_letters, queues, watchdog
from worker.models import DurableTask


class NotDead(APIException):
    """The task is not dead, or not any more: there is nothing to decide about it."""

    status_code = HTTPStatus.CONFLICT
    default_detail = "This task is not dead, or not any more. Nothing was done."
    problem = "not-dead"


@extend_schema(tags=["operations"], summary="The queues")
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
    summary="The queues over time",
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
    summary="What is wrong",
)
class ProblemsView(ListAPIView[Any]):
    """What the watchdog finds wrong with relays, workers, queues, schedules and clock; empty if all is well."""

    permission_classes = [MayOperate]
    serializer_class = MachineryProblemSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return watchdog.problems()


class DeadQuery(serializers.Serializer[Any]):
    """Which dead letters a client wants to see."""

    task = serializers.CharField(required=False, max_length=255)
    queue = serializers.CharField(required=False, max_length=64)
    subject = serializers.CharField(required=False, max_length=64, help_text="Such as store.order:42.")
    search = serializers.CharField(required=False, max_length=200, help_text="Part of the error.")
    fingerprint = serializers.CharField(required=False, max_length=64, help_text="A group's.")


def wanted(request: Request) -> QuerySet[DurableTask]:
    """
    Return the dead letters that the query of ``request`` names.

    Raises:
        ValidationError: it has an empty or overlong value.
    """
    query = DeadQuery(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    wish = query.validated_data
    dead = dead_letters.dead_tasks(name=wish.get("task"))
    if "queue" in wish:
        dead = dead.filter(queue=wish["queue"])
    if "subject" in wish:
        dead = dead.filter(subject=wish["subject"])
    if "search" in wish:
        dead = dead.filter(last_error__icontains=wish["search"])
    if "fingerprint" in wish:
        dead = dead.filter(id__in=dead_letters.ids_of({wish["fingerprint"]}))
    return dead


@extend_schema(tags=["operations"], summary="The dead letters", parameters=[DeadQuery])
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
    summary="The dead letters by kind of error",
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
            raise NotFound("There is no such task.")
        return task


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


class ReplayManyView(APIView):
    permission_classes = [MayOperate]
    needs = REPLAY

    @extend_schema(
        tags=["operations"],
        operation_id="ops_dead_replay_many",
        summary="Replay many dead letters",
        request=ReplayManySerializer,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """Make them pending again, all at once or at a bounded rate. Asking twice replays each once."""
        wish = ReplayManySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        count = dead_letters.replay(wish.selected(), per_second=wish.validated_data.get("per_second"))
        return Response(CountSerializer({"count": count}).data)


class DiscardManyView(APIView):
    permission_classes = [MayOperate]
    needs = DISCARD

    @extend_schema(
        tags=["operations"],
        operation_id="ops_dead_discard_many",
        summary="Discard many dead letters",
        request=DiscardManySerializer,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """Give them up for good: they are cancelled, and keep the reason."""
        wish = DiscardManySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        count = dead_letters.discard(wish.selected(), reason=wish.validated_data["reason"])
        return Response(CountSerializer({"count": count}).data)
