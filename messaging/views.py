"""Messages over HTTP: the user's inbox, sent messages and blocked users."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from messaging import writing
from messaging.models import Block, Message
from messaging.serializers import BlockSerializer, MessageSerializer, NewBlockSerializer, NewMessageSerializer
from store.once import once
from web.fields import NothingSerializer
from web.refusals import Refusal

BOX = OpenApiParameter("box", str, enum=["inbox", "sent"], description="Messages received (the default) or sent.")
MESSAGE = OpenApiExample(
    "A message that was read",
    response_only=True,
    value={
        "id": 7,
        "sender": "grace",
        "receiver": "alan",
        "content": "Is the parcel there?",
        "timestamp": "2026-11-21T09:30:00Z",
        "read_at": "2026-11-21T09:31:12Z",
    },
)


class Blocked(Refusal):
    """One of the two users has blocked the other."""

    status_code = status.HTTP_403_FORBIDDEN
    problem = "blocked"
    default_detail = "You cannot exchange messages with this user."


@extend_schema_view(
    list=extend_schema(
        tags=["messages"], summary="List messages", parameters=[BOX], examples=[MESSAGE], responses=MessageSerializer
    )
)
class MessageViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Message]):
    """Your messages, newest first."""

    serializer_class = MessageSerializer
    queryset = Message.objects.none()
    lookup_value_regex = "[0-9]{1,18}"

    @property
    def throttle_scope(self) -> str | None:
        """Only writes are throttled."""
        return "messages" if self.action == "create" else None

    def get_queryset(self) -> QuerySet[Message]:
        messages = Message.objects.select_related("sender", "receiver")
        box = self.request.query_params.get("box", "inbox") if self.action == "list" else "inbox"
        if box == "inbox":
            return messages.inbox_of(self.request.user)
        if box == "sent":
            return messages.sent_by(self.request.user)
        raise ValidationError({"box": ["Must be inbox or sent."]})

    @extend_schema(
        tags=["messages"],
        summary="Send a message",
        request=NewMessageSerializer,
        responses={201: MessageSerializer},
        examples=[
            OpenApiExample(
                "To another user", request_only=True, value={"receiver": "alan", "content": "Is the parcel there?"}
            )
        ],
    )
    @once()
    def create(self, request: Request) -> Response:
        """Send a message to another user, who is notified. 403 if either user has blocked the other."""
        wish = NewMessageSerializer(data=request.data, context=self.get_serializer_context())
        wish.is_valid(raise_exception=True)
        try:
            message = writing.write(request.user, **wish.validated_data)
        except writing.BlockedError:
            raise Blocked from None
        return Response(MessageSerializer(message).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        tags=["messages"], summary="Mark a message as read", request=NothingSerializer, responses=MessageSerializer
    )
    @action(detail=True, methods=["post"])
    def read(self, request: Request, pk: str) -> Response:
        """Mark a received message as read; its sender can see that. Repeating the request changes nothing."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        message = self.get_object()
        message.mark_as_read()
        return Response(MessageSerializer(message).data)


@extend_schema_view(
    list=extend_schema(tags=["messages"], summary="List blocked users"),
    destroy=extend_schema(tags=["messages"], summary="Unblock a user"),
)
class BlockViewSet(mixins.ListModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet[Block]):
    """The users you have blocked."""

    serializer_class = BlockSerializer
    queryset = Block.objects.none()
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Block]:
        user: Any = self.request.user
        return Block.objects.filter(user=user).select_related("blocked")

    @extend_schema(
        tags=["messages"], summary="Block a user", request=NewBlockSerializer, responses={201: BlockSerializer}
    )
    @once()
    def create(self, request: Request) -> Response:
        """Block a user: neither of you can send messages to the other. Repeating the request changes nothing."""
        wish = NewBlockSerializer(data=request.data, context=self.get_serializer_context())
        wish.is_valid(raise_exception=True)
        user: Any = request.user
        block, _ = Block.objects.get_or_create(user=user, blocked=wish.validated_data["username"])
        return Response(BlockSerializer(block).data, status=status.HTTP_201_CREATED)
