"""``/api/ops/limits/``: all limits and the tasks they hold back; rates of tasks."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger.desk import limits
from celery_ledger.desk.permissions import STEER
from operations.permissions import MayOperate
from operations.serializers import LimitSerializer, RateSerializer, TaskRateSerializer


@extend_schema(tags=["operations"], summary="List limits")
class LimitsView(ListAPIView[Any]):
    """The limits of queues, of tasks and by key, and how many due tasks each holds back."""

    permission_classes = [MayOperate]
    serializer_class = LimitSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return limits.limits()


class RateView(APIView):
    permission_classes = [MayOperate]
    needs = STEER

    @extend_schema(
        tags=["operations"],
        operation_id="ops_task_rate",
        summary="Limit a task",
        request=RateSerializer,
        responses=TaskRateSerializer,
    )
    def post(self, request: Request, task: str) -> Response:
        """Limit how many of a task start per second, in the whole cluster, whatever the code says. Audited."""
        wish = RateSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            kept = limits.limit_task(task, wish.validated_data["rate"])
        except LookupError as error:
            raise NotFound(str(error)) from None
        except ValueError as error:
            raise serializers.ValidationError({"rate": [str(error)]}) from None
        return Response(TaskRateSerializer(asdict(kept)).data)
