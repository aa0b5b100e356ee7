"""Chains, groups and chords as graphs, below ``/api/ops/canvases/``."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger.desk import cancelling, graphs
from celery_ledger.desk.folding import State
from celery_ledger.desk.permissions import CANCEL
from operations.permissions import MayOperate
from operations.serializers import CancelSerializer, CountSerializer

STATES = [str(state) for state in State]


class CallSerializer(serializers.Serializer[Any]):
    """One of a node's calls."""

    id = serializers.UUIDField()
    task = serializers.CharField(source="name")
    state = serializers.ChoiceField(choices=STATES)
    error = serializers.CharField(help_text="The last one.")
    has_row = serializers.BooleanField(help_text="false: not called yet, so there is no such task.")


class NodeSerializer(serializers.Serializer[Any]):
    """Calls in the same place of a canvas."""

    key = serializers.IntegerField()
    task = serializers.CharField(source="name", help_text="Empty: the calls are of several tasks.")
    title = serializers.CharField(help_text="The last part of the task's name.")
    state = serializers.ChoiceField(choices=STATES, help_text="The most important state among its calls.")
    count = serializers.IntegerField(help_text="Number of calls in this node.")
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="How many are in which state.")
    is_row = serializers.BooleanField(help_text="Whether they run one after another, not in parallel.")
    calls = CallSerializer(many=True, help_text="Some of the calls, those that need attention first.")
    awaited = serializers.IntegerField(help_text="How many calls it still waits for.")
    awaits = CallSerializer(many=True, help_text="Some of those calls.")
    column = serializers.IntegerField(help_text="Its horizontal position.")
    row = serializers.IntegerField(help_text="Its vertical position.")
    text = serializers.CharField(source="in_words", help_text="A summary in one sentence.")


class EdgeSerializer(serializers.Serializer[Any]):
    """An edge between two nodes, by their keys."""

    before = serializers.IntegerField()
    after = serializers.IntegerField()


class CanvasSerializer(serializers.Serializer[Any]):
    """A chain, group or chord, or a combination of them."""

    id = serializers.UUIDField()
    total = serializers.IntegerField()
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="How many are in which state.")
    is_whole = serializers.BooleanField(help_text="false: it is too large for all of its calls to be drawn.")
    is_ended = serializers.BooleanField(help_text="Nothing more will happen until a user acts.")
    text = serializers.CharField(source="in_words", help_text="A summary in one or two sentences.")
    nodes = NodeSerializer(many=True)
    edges = EdgeSerializer(many=True)


class CanvasView(APIView):
    """A canvas as a graph."""

    permission_classes = [MayOperate]

    @extend_schema(
        tags=["operations"],
        summary="Get a canvas",
        responses=CanvasSerializer,
        operation_id="ops_canvases_retrieve",
    )
    def get(self, request: Request, canvas_id: UUID) -> Response:
        """
        Return the calls of a canvas, their order, what each waits for, and what holds the canvas up.

        Calls in the same place are one node, with counts. Each task names its canvas.

        Raises:
            NotFound: there is no such canvas, or it no longer exists.
        """
        graph = graphs.graph_of(canvas_id)
        if graph is None:
            raise NotFound("Canvas not found.")
        return Response(CanvasSerializer(graph).data)


class CancelCanvasView(APIView):
    """Cancels a whole canvas."""

    permission_classes = [MayOperate]
    needs = CANCEL

    @extend_schema(
        tags=["operations"],
        summary="Cancel a canvas",
        request=CancelSerializer,
        responses=CountSerializer,
        operation_id="ops_canvases_cancel",
    )
    def post(self, request: Request, canvas_id: UUID) -> Response:
        """
        Cancel all waiting tasks of a canvas and, if requested, the running ones. Later steps are never called.

        Raises:
            NotFound: there is no such canvas, or no longer.
        """
        wish = CancelSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        if not graphs.is_known(canvas_id):
            raise NotFound("Canvas not found.")
        return Response(CountSerializer({"count": cancelling.cancel_canvas(canvas_id, **wish.validated_data)}).data)
