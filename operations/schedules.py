"""``/api/ops/schedules/``: past runs and due times of schedules, and the actions on them."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException, NotFound
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger.contrib.beat import timetable
from operations.permissions import MayOperate
from operations.serializers import ScheduleSerializer, TellScheduleSerializer
from store.once import once


class CannotRun(APIException):
    """The schedule's task cannot be enqueued with the schedule's settings."""

    status_code = HTTPStatus.CONFLICT
    problem = "cannot-run"


@extend_schema(tags=["operations"], summary="List schedules")
class SchedulesView(ListAPIView[Any]):
    """Schedules with their last runs, outcomes, durations and next due times; late and broken ones first."""

    permission_classes = [MayOperate]
    serializer_class = ScheduleSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return [asdict(each) for each in timetable.schedules()]


class TellScheduleView(APIView):
    permission_classes = [MayOperate]
    needs = timetable.CHANGE

    @extend_schema(
        tags=["operations"],
        operation_id="ops_schedule_tell",
        summary="Run, pause or resume a schedule",
        request=TellScheduleSerializer,
        responses=ScheduleSerializer,
    )
    @once()
    def post(self, request: Request, pk: str) -> Response:
        """Run, pause or resume a schedule. 409 if it is to run now and its task cannot be enqueued."""
        wish = TellScheduleSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            timetable.DECISIONS[wish.validated_data["what"]](int(pk))
        except LookupError as error:
            raise NotFound(str(error)) from None
        except ValueError as error:
            raise CannotRun(str(error)) from None
        told = next(each for each in timetable.schedules() if each.id == int(pk))
        return Response(ScheduleSerializer(asdict(told)).data)
