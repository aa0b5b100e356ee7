"""Notifications and notification preferences, over HTTP."""

import hashlib
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max, Q, Sum
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.cache import patch_cache_control
from django.utils.http import parse_etags
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, Throttled, ValidationError
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from notifications import push, trouble, vapid
from notifications.models import Notification, NotificationQuerySet, PushSubscription, QuietHours
from notifications.preferences import preferences_of, save_preferences, save_quiet_hours
from notifications.serializers import (
    ChannelsOnSerializer,
    EndpointSerializer,
    NotificationSerializer,
    PreferencesSerializer,
    PublicKeySerializer,
    ReadAllSerializer,
    SubscriptionSerializer,
)
from notifications.streams import as_sse, parse_cursor, seat_for, user_behind, while_allowed
from store.once import once
from web.fields import NothingSerializer

ALL = OpenApiParameter("all", str, enum=["0", "1"], description="1 includes notifications that have been read.")
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="The `ETag` of an earlier response to the same request."
)
ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 304], description="Identifies the state of this list."
)
CURSOR = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID", CURSOR, OpenApiParameter.HEADER, description="The id of the last event received."
)
AFTER = OpenApiParameter("after", CURSOR, description="Same as `Last-Event-ID`, for clients that cannot set headers.")
NOTIFICATION = OpenApiExample(
    "An order was placed",
    response_only=True,
    value={
        "id": 42,
        "kind": "order_placed",
        "message": "Your order 7 of £75.25 has been placed.",
        "data": {"order": 7},
        "created": "2026-11-21T09:30:00Z",
        "read": False,
    },
)
SUBSCRIPTION = OpenApiExample(
    "A browser",
    request_only=True,
    value={
        "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAA",
        "keys": {
            "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "auth": "BTBZMqHH6r4Tts7J_aSIgg",
        },
    },
)
PREFERENCES = OpenApiExample(
    "Mails about cancelled orders, and quiet nights",
    value={
        "kinds": {"order_cancelled": {"email": True, "push": False}},
        "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/London"},
    },
    request_only=True,
)


@extend_schema_view(
    list=extend_schema(
        tags=["notifications"],
        summary="List notifications",
        parameters=[ALL, IF_NONE_MATCH, ETAG],
        responses={200: NotificationSerializer, 304: OpenApiResponse(description="The list has not changed.")},
        examples=[NOTIFICATION],
    )
)
class NotificationViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Notification]):
    """Your notifications, newest first."""

    serializer_class = NotificationSerializer
    queryset = Notification.objects.none()
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> NotificationQuerySet:
        shown = Notification.objects.shown_to(self.request.user)
        if self.action != "list":
            return shown
        wish = self.request.query_params.get("all", "0")
        if wish not in {"0", "1"}:
            raise ValidationError({"all": ["Must be 0 or 1."]})
        return shown if wish == "1" else shown.unread()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """
        Unread notifications, or with `all=1` all of them.

        To poll, send the `ETag` of the last response as `If-None-Match`: as long as nothing has changed, the
        response is a 304 without a body, which costs one small query.
        """
        tag = state_tag(self.get_queryset(), user_id=_reader(request))
        offered = parse_etags(request.headers.get("If-None-Match", ""))
        if "*" in offered or tag in offered:
            response = Response(status=status.HTTP_304_NOT_MODIFIED)
        else:
            response = super().list(request, *args, **kwargs)
        response["ETag"] = tag
        patch_cache_control(response, private=True, no_cache=True)
        return response

    @extend_schema(
        tags=["notifications"],
        summary="Mark a notification as read",
        request=NothingSerializer,
        responses=NotificationSerializer,
    )
    @action(detail=True, methods=["post"])
    def read(self, request: Request, pk: str) -> Response:
        """Mark a notification as read. Repeating the request changes nothing."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        notification = self.get_object()
        notification.mark_as_read()
        return Response(NotificationSerializer(notification).data)

    @extend_schema(
        tags=["notifications"],
        summary="Mark all notifications as read",
        request=NothingSerializer,
        responses=ReadAllSerializer,
    )
    @action(detail=False, methods=["post"], url_path="read-all", pagination_class=None)
    def read_all(self, request: Request) -> Response:
        """Mark all notifications up to now as read."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        return Response({"read": self.get_queryset().unread().update(read=True)})


def state_tag(notifications: NotificationQuerySet, *, user_id: int) -> str:
    """
    Return an entity tag that changes whenever one of a user's lists changes. One query of one index.

    A new notification has the highest id; reading or pruning one lowers a count.
    """
    unread = Q(read=False)
    state = notifications.order_by().aggregate(
        newest=Max("pk"), count=Count("pk"), unread=Count("pk", filter=unread), which=Sum("pk", filter=unread)
    )
    text = " ".join(str(value) for value in (user_id, *state.values()))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


class StreamView(APIView):
    http_method_names = ["get", "options"]

    @extend_schema(
        tags=["notifications"],
        summary="Stream notifications",
        parameters=[LAST_EVENT_ID, AFTER],
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """
        Server-Sent Events, each with a notification's id as `id` and its JSON as `data`.

        With `Last-Event-ID` or `after`, the stream resumes without a gap; without either it starts now. An event
        of type `order-tasks`, `{"order": 7}`, means that `/api/orders/7/tasks/` has changed. The response is 429
        if the user has too many streams open.
        """
        text = request.headers.get("Last-Event-ID") or request.query_params.get("after")
        try:
            after = parse_cursor(text)
        except ValueError as error:
            raise ValidationError({"after": [str(error)]}) from None
        reader = _reader(request)
        seat = seat_for(reader)
        if seat is None:
            raise Throttled(wait=5, detail=f"At most {settings.STREAMS_PER_USER} streams at a time.")
        cookies, authorization = request.headers.get("Cookie", ""), request.headers.get("Authorization", "")
        events = while_allowed(reader, after, seat=seat, is_allowed=lambda: _is_still(reader, cookies, authorization))
        response = StreamingHttpResponse(as_sse(events), content_type="text/event-stream")
        response["X-Accel-Buffering"] = "no"  # nginx would hold events back.
        patch_cache_control(response, no_cache=True, private=True)
        return response


def _is_still(reader: int, cookies: str, authorization: str) -> bool:
    user = user_behind(cookies, authorization)
    return user is not None and user.pk == reader


class PreferencesView(APIView):
    @extend_schema(tags=["notifications"], summary="Get notification preferences", responses=PreferencesSerializer)
    def get(self, request: Request) -> Response:
        """The channels that are on for each kind of notification, and the quiet hours."""
        return Response(_preferences(_reader(request)))

    @extend_schema(
        tags=["notifications"],
        summary="Update notification preferences",
        request=PreferencesSerializer,
        responses=PreferencesSerializer,
        examples=[PREFERENCES],
    )
    def put(self, request: Request) -> Response:
        """Turn channels on or off for each kind, and set quiet hours. Settings that are left out stay unchanged."""
        wish = PreferencesSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        user_id = _reader(request)
        save_preferences(user_id, wish.validated_data.get("kinds", {}))
        if "quiet_hours" in wish.validated_data:
            save_quiet_hours(user_id, wish.validated_data["quiet_hours"])
        return Response(_preferences(user_id))


class TestAlertView(APIView):
    permission_classes = [IsAdminUser]
    throttle_scope = "subscriptions"

    @extend_schema(
        tags=["notifications"],
        operation_id="notifications_test",
        summary="Send yourself a test alert",
        request=NothingSerializer,
        responses={201: ChannelsOnSerializer},
    )
    @once()
    def post(self, request: Request) -> Response:
        """Send a test over the channels that are on for operations alerts, and list these. For staff."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        channels = trouble.test(_reader(request))
        return Response({"channels": channels}, status=status.HTTP_201_CREATED)


def _reader(request: Request) -> int:
    reader: int | None = request.user.pk
    assert reader is not None, "The permissions require a signed-in user."
    return reader


class PublicKeyView(APIView):
    @extend_schema(
        tags=["notifications"], summary="Get the public key for push subscriptions", responses=PublicKeySerializer
    )
    def get(self, request: Request) -> Response:
        """The `applicationServerKey` of the shop. 404 if the shop does not send push notifications."""
        key = vapid.public_key()
        if key is None:
            raise NotFound("This shop does not send push notifications.")
        return Response({"public_key": key})


class SubscriptionView(APIView):
    throttle_scope = "subscriptions"

    @extend_schema(
        tags=["notifications"],
        summary="Subscribe a browser to push notifications",
        request=SubscriptionSerializer,
        responses={201: EndpointSerializer},
        examples=[SUBSCRIPTION],
    )
    @once()
    def post(self, request: Request) -> Response:
        """Store a browser's subscription. The endpoint must belong to a known push service and use https."""
        wish = SubscriptionSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        endpoint = wish.validated_data["endpoint"]
        with transaction.atomic():
            push.subscribe(request.user, endpoint=endpoint, **wish.validated_data["keys"])
        return Response({"endpoint": endpoint}, status=status.HTTP_201_CREATED)

    @extend_schema(
        tags=["notifications"],
        summary="Unsubscribe a browser from push notifications",
        request=EndpointSerializer,
        responses={204: None},
    )
    def delete(self, request: Request) -> Response:
        """Delete a browser's subscription."""
        wish = EndpointSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        mine: Any = PushSubscription.objects.filter(user_id=_reader(request))
        if not mine.filter(endpoint=wish.validated_data["endpoint"]).delete()[0]:
            raise NotFound("Subscription not found.")
        return Response(status=status.HTTP_204_NO_CONTENT)


@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """``/sw.js``: the service worker that shows push notifications. At the root, its scope is the whole site."""
    script = (Path(__file__).parent / "service_worker.js").read_text()
    return HttpResponse(script, content_type="text/javascript; charset=utf-8", headers={"Cache-Control": "no-cache"})


def _preferences(user_id: int) -> dict[str, Any]:
    hours = QuietHours.objects.filter(pk=user_id).first()
    return dict(PreferencesSerializer({"kinds": preferences_of(user_id), "quiet_hours": hours}).data)
