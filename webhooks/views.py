"""``/api/webhooks/``: endpoints and their deliveries, for staff."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import SAFE_METHODS, IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from store.once import once
from web.fields import NothingSerializer
from web.refusals import Refusal
from webhooks import changes
from webhooks.log import NotSettledError, SwitchedOffError
from webhooks.models import WebhookDelivery, WebhookEndpoint
from webhooks.sealing import seal, unseal
from webhooks.serializers import (
    DeliveriesQuery,
    EndpointWishSerializer,
    NewSecretSerializer,
    WebhookDeliveryDetailSerializer,
    WebhookDeliverySerializer,
    WebhookEndpointSerializer,
)


class MayManage(IsAdminUser):
    """Staff may read; writes require the permission to change endpoints."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        is_looking = request.method in SAFE_METHODS or not hasattr(view, str(request.method).lower())
        return is_looking or request.user.has_perm("webhooks.change_webhookendpoint")


class SwitchedOff(Refusal):
    """The endpoint is disabled, so nothing is sent to it."""

    problem = "endpoint-switched-off"
    default_detail = "This endpoint is switched off. Switch it on first."


class StillPending(Refusal):
    """The delivery is still pending."""

    problem = "delivery-pending"
    default_detail = "This delivery is still pending. It will be retried automatically."


@extend_schema_view(
    list=extend_schema(tags=["webhooks"], summary="List webhook endpoints"),
    retrieve=extend_schema(tags=["webhooks"], summary="Get a webhook endpoint"),
    destroy=extend_schema(tags=["webhooks"], summary="Delete a webhook endpoint and the log of its deliveries"),
)
class EndpointViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet[WebhookEndpoint],
):
    """Endpoints that receive the shop's events. A secret is shown once, when it is created."""

    permission_classes = [MayManage]
    serializer_class = WebhookEndpointSerializer
    queryset = WebhookEndpoint.objects.order_by("id")
    lookup_value_regex = "[0-9]{1,18}"

    @extend_schema(
        tags=["webhooks"],
        summary="Create a webhook endpoint",
        request=EndpointWishSerializer,
        responses={201: NewSecretSerializer},
    )
    @once(seal=seal, unseal=unseal)
    def create(self, request: Request) -> Response:
        """Subscribe a URL to events; deliveries start within seconds. The response contains its secret."""
        wish = EndpointWishSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        owner: Any = request.user
        endpoint = WebhookEndpoint.objects.create(owner=owner, **wish.validated_data)
        return Response(NewSecretSerializer(endpoint).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        tags=["webhooks"],
        summary="Change a webhook endpoint",
        request=EndpointWishSerializer,
        responses=WebhookEndpointSerializer,
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change the given fields. Set ``active`` to re-enable a disabled endpoint."""
        endpoint = self.get_object()
        wish = EndpointWishSerializer(data=request.data, partial=True)
        wish.is_valid(raise_exception=True)
        for name, value in wish.validated_data.items():
            setattr(endpoint, name, value)
        endpoint.save(update_fields=list(wish.validated_data))
        return Response(WebhookEndpointSerializer(endpoint).data)

    @extend_schema(
        tags=["webhooks"], summary="Rotate the secret", request=NothingSerializer, responses=NewSecretSerializer
    )
    @once(seal=seal, unseal=unseal)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: str) -> Response:
        """Create a new secret and return it. Until ``previous_until`` every delivery is signed with both secrets."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        return Response(NewSecretSerializer(changes.rotate(self.get_object().pk)).data)

    @extend_schema(
        tags=["webhooks"],
        summary="Send a test",
        request=NothingSerializer,
        responses={202: WebhookDeliverySerializer},
    )
    @once()
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Send a ``webhook.test`` event to the endpoint. 409 if it is disabled."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        try:
            delivery = changes.test(self.get_object())
        except SwitchedOffError:
            raise SwitchedOff from None
        return Response(WebhookDeliverySerializer(delivery).data, status=status.HTTP_202_ACCEPTED)


@extend_schema_view(
    list=extend_schema(tags=["webhooks"], summary="List webhook deliveries", parameters=[DeliveriesQuery]),
    retrieve=extend_schema(
        tags=["webhooks"], summary="Get a webhook delivery", responses=WebhookDeliveryDetailSerializer
    ),
)
class DeliveryViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[WebhookDelivery]):
    """Deliveries to endpoints and their responses, newest first."""

    permission_classes = [MayManage]
    serializer_class = WebhookDeliverySerializer
    queryset = WebhookDelivery.objects.order_by("-id")
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        deliveries = super().get_queryset()
        if self.action != "list":
            return deliveries.prefetch_related("attempts")
        query = DeliveriesQuery(data=self.request.query_params.dict())
        query.is_valid(raise_exception=True)
        return deliveries.filter(**query.validated_data)

    def get_serializer_class(self) -> Any:
        return WebhookDeliveryDetailSerializer if self.action == "retrieve" else WebhookDeliverySerializer

    @extend_schema(
        tags=["webhooks"],
        summary="Redeliver",
        request=NothingSerializer,
        responses={202: WebhookDeliverySerializer},
    )
    @once()
    @action(detail=True, methods=["post"])
    def redeliver(self, request: Request, pk: str) -> Response:
        """Send a settled delivery again, with the same body and ``webhook-id``. 409 if it is still pending."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        delivery = self.get_object()
        try:
            changes.redeliver(delivery.pk)
        except NotSettledError:
            raise StillPending from None
        except SwitchedOffError:
            raise SwitchedOff from None
        delivery.refresh_from_db()
        return Response(WebhookDeliverySerializer(delivery).data, status=status.HTTP_202_ACCEPTED)
