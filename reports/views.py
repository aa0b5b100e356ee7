"""Sales reports on demand."""

from uuid import UUID

from celery.result import AsyncResult
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger.models import DurableTask
from reports import tasks
from reports.serializers import ReportRequestSerializer, ReportSerializer
from store.once import once


class ReportsView(APIView):
    permission_classes = [IsAdminUser]

    @extend_schema(
        tags=["analytics"],
        summary="Request a sales report",
        request=ReportRequestSerializer,
        responses={202: ReportSerializer},
    )
    @once()
    def post(self, request: Request) -> Response:
        """Request the sales report of a day, by default yesterday's. It is sent to you by mail."""
        wish = ReportRequestSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        day = wish.validated_data.get("day")
        handle = tasks.send_report.delay(request.user.pk, day.isoformat() if day else None)
        answer = {"id": handle.id, "status": DurableTask.Status.PENDING, "progress": None}
        return Response(ReportSerializer(answer).data, status=status.HTTP_202_ACCEPTED)


class ReportView(APIView):
    permission_classes = [IsAdminUser]

    @extend_schema(tags=["analytics"], summary="Get the progress of a sales report", responses=ReportSerializer)
    def get(self, request: Request, task_id: UUID) -> Response:
        """The progress of a report that you requested."""
        task = DurableTask.objects.filter(pk=task_id, name=tasks.send_report.name).first()
        if task is None or task.args[:1] != [request.user.pk]:
            raise NotFound("Report not found.")
        result = AsyncResult(str(task.pk))
        progress = result.info if result.state == "PROGRESS" else None
        return Response(ReportSerializer({"id": task.pk, "status": task.status, "progress": progress}).data)
