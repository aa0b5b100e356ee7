"""``/api/ops/processes/``: running processes, and instructions to them."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException, NotFound
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger.desk import crew
from celery_ledger.desk.permissions import STEER
from operations.permissions import MayOperate
from operations.serializers import ProcessSerializer, TellSerializer


class NotTold(APIException):
    """The process is silent, or cannot do this."""

    status_code = HTTPStatus.CONFLICT
    problem = "not-told"


@extend_schema(tags=["operations"], summary="List workers, relays and beats")
class ProcessesView(ListAPIView[Any]):
    """Running processes, their machines and what they run. Silent ones are listed for ten minutes."""

    permission_classes = [MayOperate]
    serializer_class = ProcessSerializer
    filter_backends = []

    def get_queryset(self) -> Any:
        return [asdict(each) for each in crew.processes()]


class TellView(APIView):
    permission_classes = [MayOperate]
    needs = STEER

    @extend_schema(
        tags=["operations"],
        operation_id="ops_process_tell",
        summary="Drain, resume or stop a process",
        request=TellSerializer,
        responses=ProcessSerializer,
    )
    def post(self, request: Request, process: str) -> Response:
        """
        Instruct a process. It obeys within seconds, with its next heartbeat.

        409 for a silent process, and for draining a relay or beat.
        """
        wish = TellSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            told = crew.tell(process, wish.validated_data["what"])
        except LookupError as error:
            raise NotFound(str(error)) from None
        except crew.NotToldError as error:
            raise NotTold(str(error)) from None
        return Response(ProcessSerializer(asdict(told)).data)
