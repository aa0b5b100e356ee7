"""The shop's API: catalogue, carts, orders and one's own profile."""

from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from store import carts
from store.cancellation import cancel_order
from store.contention import persist
from store.customers import customer_of, customer_or_none
from store.fields import MAX_ID
from store.filters import MAX_SEARCH_LENGTH, ProductFilter
from store.models import Cart, CartItem, CartQuerySet, Collection, Order, OrderQuerySet, Product
from store.serializers import (
    AddItemSerializer,
    CartItemSerializer,
    CartSerializer,
    ChangeItemSerializer,
    CollectionSerializer,
    CreateOrderSerializer,
    CustomerSerializer,
    NothingSerializer,
    OrderSerializer,
    OrderTasksSerializer,
    ProductSerializer,
)
from worker.models import DurableTask

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description=(
        "1 to 255 printable ASCII characters. The same key and body again within 24 hours answer the first "
        "response again, with `Idempotent-Replayed: true`, and place nothing."
    ),
)
REPLAYED = OpenApiParameter(
    "Idempotent-Replayed",
    str,
    OpenApiParameter.HEADER,
    response=[200, 201],
    enum=["true"],
    description="Present where this order was placed by an earlier request.",
)


PRICE = {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$"}
#: The filters as the document tells them; store/filters.py holds clients to it.
CATALOGUE_FILTERS = [
    OpenApiParameter(
        "search",
        {"type": "string", "maxLength": MAX_SEARCH_LENGTH, "pattern": r"^[^\x00]*$"},
        description="Words of the title, or a part of the SKU; each has to be found.",
    ),
    OpenApiParameter(
        "collection", {"type": "integer", "minimum": 1, "maximum": MAX_ID}, description="A collection's id."
    ),
    OpenApiParameter("min_price", PRICE),
    OpenApiParameter("max_price", PRICE),
    OpenApiParameter("in_stock", bool, description="Only what is available, or only what is not."),
]


class MyProfileView(APIView):
    """One's own customer profile."""

    @extend_schema(tags=["users"], summary="One's own profile", responses=CustomerSerializer)
    def get(self, request: Request) -> Response:
        return Response(CustomerSerializer(customer_of(request.user)).data)

    @extend_schema(
        tags=["users"], summary="Change one's own profile", request=CustomerSerializer, responses=CustomerSerializer
    )
    def patch(self, request: Request) -> Response:
        serializer = CustomerSerializer(customer_of(request.user), data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data)


@extend_schema_view(
    list=extend_schema(tags=["catalogue"], summary="The catalogue", parameters=CATALOGUE_FILTERS),
    retrieve=extend_schema(tags=["catalogue"], summary="One product"),
)
class ProductViewSet(viewsets.ReadOnlyModelViewSet[Product]):
    """What the shop sells."""

    queryset = Product.objects.with_available().order_by("id")
    serializer_class = ProductSerializer
    permission_classes = [AllowAny]
    filter_backends = [DjangoFilterBackend]
    filterset_class = ProductFilter
    lookup_value_regex = "[0-9]{1,18}"


@extend_schema_view(
    list=extend_schema(tags=["catalogue"], summary="The shelves of the catalogue"),
    retrieve=extend_schema(tags=["catalogue"], summary="One shelf"),
)
class CollectionViewSet(viewsets.ReadOnlyModelViewSet[Collection]):
    """The shelves of the catalogue."""

    queryset = Collection.objects.annotate(products_count=Count("products")).order_by("title")
    serializer_class = CollectionSerializer
    permission_classes = [AllowAny]
    lookup_value_regex = "[0-9]{1,18}"


class CartAPIView(APIView):
    """A cart is used by whoever knows its id; one that was made by a customer, by that customer alone."""

    permission_classes = [AllowAny]

    def reachable(self) -> CartQuerySet:
        return Cart.objects.reachable_by(customer_or_none(self.request.user))


class CartsView(CartAPIView):
    @extend_schema(tags=["carts"], summary="Make a cart", request=NothingSerializer, responses={201: CartSerializer})
    def post(self, request: Request) -> Response:
        """Make an empty cart. It belongs to the customer who is signed in, or to nobody."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        cart = Cart.objects.create(customer=customer_or_none(request.user))
        vars(cart)["_prefetched_objects_cache"] = {"items": CartItem.objects.none()}  # It is new, so it has none.
        return Response(CartSerializer(cart).data, status=status.HTTP_201_CREATED)


class CartView(CartAPIView):
    @extend_schema(tags=["carts"], summary="One cart", responses=CartSerializer)
    def get(self, request: Request, cart_id: UUID) -> Response:
        """What is in a cart, at the prices of now."""
        cart = self.reachable().with_lines().filter(pk=cart_id).first()
        if cart is None:
            raise NotFound("There is no such cart.")
        return Response(CartSerializer(cart).data)

    @extend_schema(tags=["carts"], summary="Throw a cart away", responses={204: None})
    def delete(self, request: Request, cart_id: UUID) -> Response:
        try:
            persist(lambda: carts.drop_cart(cart_id, among=self.reachable()))
        except Cart.DoesNotExist:
            raise NotFound("There is no such cart.") from None
        return Response(status=status.HTTP_204_NO_CONTENT)


class CartItemsView(CartAPIView):
    @extend_schema(
        tags=["carts"],
        summary="Put a product into a cart",
        request=AddItemSerializer,
        responses={201: CartItemSerializer},
    )
    def post(self, request: Request, cart_id: UUID) -> Response:
        """Put some of a product into a cart, on top of what is in it already."""
        wish = AddItemSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            item = persist(lambda: carts.add_to_cart(cart_id, **wish.validated_data, among=self.reachable()))
        except Cart.DoesNotExist:
            raise NotFound("There is no such cart.") from None
        except Product.DoesNotExist:
            raise NotFound("There is no such product.") from None
        except carts.LineRefused as error:
            raise ValidationError({"quantity": [str(error)]}) from error
        return Response(CartItemSerializer(item).data, status=status.HTTP_201_CREATED)


class CartItemView(CartAPIView):
    @extend_schema(
        tags=["carts"],
        summary="Change how many a line asks for",
        request=ChangeItemSerializer,
        responses=CartItemSerializer,
    )
    def patch(self, request: Request, cart_id: UUID, item_id: int) -> Response:
        wish = ChangeItemSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            item = persist(lambda: carts.change_line(cart_id, item_id, **wish.validated_data, among=self.reachable()))
        except (Cart.DoesNotExist, CartItem.DoesNotExist):
            raise NotFound("There is no such line.") from None
        return Response(CartItemSerializer(item).data)

    @extend_schema(tags=["carts"], summary="Take a line out of a cart", responses={204: None})
    def delete(self, request: Request, cart_id: UUID, item_id: int) -> Response:
        try:
            persist(lambda: carts.remove_line(cart_id, item_id, among=self.reachable()))
        except (Cart.DoesNotExist, CartItem.DoesNotExist):
            raise NotFound("There is no such line.") from None
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema_view(
    list=extend_schema(tags=["orders"], summary="Orders"),
    retrieve=extend_schema(tags=["orders"], summary="One order"),
)
class OrderViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Order]):
    """One's own orders, newest first; staff see everybody's."""

    serializer_class = OrderSerializer
    queryset = Order.objects.none()
    lookup_value_regex = "[0-9]{1,18}"

    @property
    def throttle_scope(self) -> str | None:
        """Only checkouts are counted."""
        return "checkout" if self.action == "create" else None

    def get_queryset(self) -> OrderQuerySet:
        return Order.objects.visible_to(self.request.user).with_lines()

    @extend_schema(
        tags=["orders"],
        summary="Check out",
        request=CreateOrderSerializer,
        parameters=[IDEMPOTENCY_KEY, REPLAYED],
        responses={
            201: OpenApiResponse(OrderSerializer, description="The order is placed."),
            200: OpenApiResponse(OrderSerializer, description="The order that was made of this cart before."),
        },
    )
    def create(self, request: Request) -> Response:
        """Place an order of a cart. The cart is gone afterwards; a second checkout of it answers the same order."""
        serializer = CreateOrderSerializer(data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        answer = persist(serializer.save)
        headers = {"Idempotent-Replayed": "true"} if answer.replayed else None
        return Response(answer.body, status=answer.status_code, headers=headers)

    @extend_schema(tags=["orders"], summary="Cancel an order", request=NothingSerializer, responses=OrderSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel an order that is not yet shipped: its stock goes back. A second time it is a 409."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        visible: QuerySet[Any] = Order.objects.visible_to(request.user)
        try:
            persist(lambda: cancel_order(int(pk), among=visible))
        except Order.DoesNotExist:
            raise NotFound from None
        return Response(OrderSerializer(self.get_object()).data)

    @extend_schema(tags=["orders"], summary="What became of an order", responses=OrderTasksSerializer)
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def tasks(self, request: Request, pk: str) -> Response:
        """Every durable task that this order set in motion, oldest first."""
        order = Order.objects.visible_to(request.user).filter(pk=int(pk)).only("id").first()
        if order is None:
            raise NotFound
        tasks = DurableTask.objects.filter(subject=order.subject).order_by("id")
        return Response(OrderTasksSerializer({"results": tasks}).data)
