"""The shop's API: catalogue, carts, orders and the user's own profile."""

from typing import Any, Final
from uuid import UUID

from django.db.models import Count, QuerySet
from django.utils.cache import patch_cache_control
from django.utils.decorators import method_decorator
from django.views.decorators.http import conditional_page
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from celery_ledger.models import DurableTask
from store import carts
from store.cancellation import cancel_order
from store.contention import persist
from store.customers import customer_of, customer_or_none
from store.filters import MAX_SEARCH_LENGTH, MAX_SEARCH_WORDS, ProductFilter
from store.models import Cart, CartItem, CartQuerySet, Collection, Order, OrderQuerySet, Product
from store.once import IDEMPOTENCY_KEY, REPLAYED, once
from store.serializers import (
    AddItemSerializer,
    CartItemSerializer,
    CartSerializer,
    ChangeItemSerializer,
    CollectionSerializer,
    CreateOrderSerializer,
    CustomerSerializer,
    OrderInListSerializer,
    OrderSerializer,
    OrderTasksSerializer,
    ProductSerializer,
    read_first_lines,
)
from web.fields import MAX_ID, NothingSerializer

#: Seconds for which a browser may reuse catalogue responses without asking again. Checkout reserves stock at the
#: prices current then, however old the buyer's page is.
CATALOGUE_AGE: Final = 10

PRICE = {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$"}
SPACES = r"\s\x1c-\x1f\x85"
#: At most this many words, without a NUL.
WORDS = rf"^[^\x00{SPACES}]*([{SPACES}]+[^\x00{SPACES}]+){{0,{MAX_SEARCH_WORDS - 1}}}[{SPACES}]*$"
#: The filters as documented in the OpenAPI document; store/filters.py enforces them.
CATALOGUE_FILTERS = [
    OpenApiParameter(
        "search",
        {"type": "string", "maxLength": MAX_SEARCH_LENGTH, "pattern": WORDS},
        description=f"Up to {MAX_SEARCH_WORDS} words; each must occur in the title or the SKU.",
    ),
    OpenApiParameter(
        "collection", {"type": "integer", "minimum": 1, "maximum": MAX_ID}, description="A collection's id."
    ),
    OpenApiParameter("min_price", PRICE),
    OpenApiParameter("max_price", PRICE),
    OpenApiParameter("in_stock", bool, description="Only products in stock, or only products out of stock."),
]


class MyProfileView(APIView):
    """The profile of the customer who is signed in."""

    @extend_schema(tags=["users"], summary="Get your profile", responses=CustomerSerializer)
    def get(self, request: Request) -> Response:
        return Response(CustomerSerializer(customer_of(request.user)).data)

    @extend_schema(
        tags=["users"], summary="Update your profile", request=CustomerSerializer, responses=CustomerSerializer
    )
    def patch(self, request: Request) -> Response:
        serializer = CustomerSerializer(customer_of(request.user), data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data)


@method_decorator(conditional_page, name="dispatch")
class CatalogueViewSet(viewsets.ReadOnlyModelViewSet[Any]):
    """Public pages that clients may cache briefly and then revalidate."""

    permission_classes = [AllowAny]
    lookup_value_regex = "[0-9]{1,18}"

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.status_code == status.HTTP_200_OK:
            patch_cache_control(response, public=True, max_age=CATALOGUE_AGE)
        return response


@extend_schema_view(
    list=extend_schema(tags=["catalogue"], summary="List products", parameters=CATALOGUE_FILTERS),
    retrieve=extend_schema(tags=["catalogue"], summary="Get a product"),
)
class ProductViewSet(CatalogueViewSet):
    """The products of the shop."""

    queryset = Product.objects.with_available().order_by("id")
    serializer_class = ProductSerializer
    filter_backends = [DjangoFilterBackend]
    filterset_class = ProductFilter


@extend_schema_view(
    list=extend_schema(tags=["catalogue"], summary="List collections"),
    retrieve=extend_schema(tags=["catalogue"], summary="Get a collection"),
)
class CollectionViewSet(CatalogueViewSet):
    """The collections of the catalogue."""

    queryset = Collection.objects.annotate(products_count=Count("products")).order_by("title")
    serializer_class = CollectionSerializer


class CartAPIView(APIView):
    """An anonymous cart can be used by anyone who knows its id; a customer's cart by that customer alone."""

    permission_classes = [AllowAny]
    #: The limits on writing here: for anonymous clients, and for customers.
    limits_of_strangers: tuple[str, ...] = ()
    limits_of_customers: tuple[str, ...] = ()

    @property
    def throttle_scope(self) -> tuple[str, ...]:
        """Only requests that create rows are throttled."""
        if self.request.method != "POST":
            return ()
        return self.limits_of_customers if self.request.user.is_authenticated else self.limits_of_strangers

    def reachable(self) -> CartQuerySet:
        return Cart.objects.reachable_by(customer_or_none(self.request.user))


class CartsView(CartAPIView):
    limits_of_strangers = ("carts", "carts_a_day")
    limits_of_customers = ("customer_carts",)

    @extend_schema(tags=["carts"], summary="Create a cart", request=NothingSerializer, responses={201: CartSerializer})
    @once()
    def post(self, request: Request) -> Response:
        """Create an empty cart. It belongs to the customer who is signed in; otherwise it is anonymous."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        cart = Cart.objects.create(customer=customer_or_none(request.user))
        vars(cart)["_prefetched_objects_cache"] = {"items": CartItem.objects.none()}  # It is new, so it has no lines.
        return Response(CartSerializer(cart).data, status=status.HTTP_201_CREATED)


class CartView(CartAPIView):
    @extend_schema(tags=["carts"], summary="Get a cart", responses=CartSerializer)
    def get(self, request: Request, cart_id: UUID) -> Response:
        """The lines of a cart, at current prices."""
        cart = self.reachable().with_lines().filter(pk=cart_id).first()
        if cart is None:
            raise NotFound("Cart not found.")
        return Response(CartSerializer(cart).data)

    @extend_schema(tags=["carts"], summary="Delete a cart", responses={204: None})
    def delete(self, request: Request, cart_id: UUID) -> Response:
        try:
            persist(lambda: carts.drop_cart(cart_id, among=self.reachable()))
        except Cart.DoesNotExist:
            raise NotFound("Cart not found.") from None
        return Response(status=status.HTTP_204_NO_CONTENT)


class CartClaimView(CartAPIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(tags=["carts"], summary="Claim a cart", request=NothingSerializer, responses={200: CartSerializer})
    def post(self, request: Request, cart_id: UUID) -> Response:
        """Claim an anonymous cart, for example after signing in. No one else can use it afterwards."""
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        customer = customer_of(request.user)
        try:
            persist(lambda: carts.claim_cart(cart_id, customer, among=self.reachable()))
            cart = self.reachable().with_lines().get(pk=cart_id)
        except Cart.DoesNotExist:
            raise NotFound("Cart not found.") from None
        return Response(CartSerializer(cart).data)


class CartItemsView(CartAPIView):
    limits_of_strangers = ("cart_lines",)

    @extend_schema(
        tags=["carts"],
        summary="Add a product to a cart",
        request=AddItemSerializer,
        responses={201: CartItemSerializer},
    )
    @once()
    def post(self, request: Request, cart_id: UUID) -> Response:
        """Add a quantity of a product to a cart. If the product is already in it, the quantities add up."""
        wish = AddItemSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            item = persist(lambda: carts.add_to_cart(cart_id, **wish.validated_data, among=self.reachable()))
        except Cart.DoesNotExist:
            raise NotFound("Cart not found.") from None
        except Product.DoesNotExist:
            raise NotFound("Product not found.") from None
        except carts.LineRefused as error:
            raise ValidationError({"quantity": [str(error)]}) from error
        return Response(CartItemSerializer(item).data, status=status.HTTP_201_CREATED)


class CartItemView(CartAPIView):
    @extend_schema(
        tags=["carts"],
        summary="Change the quantity of a cart item",
        request=ChangeItemSerializer,
        responses=CartItemSerializer,
    )
    def patch(self, request: Request, cart_id: UUID, item_id: int) -> Response:
        wish = ChangeItemSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        try:
            item = persist(lambda: carts.change_line(cart_id, item_id, **wish.validated_data, among=self.reachable()))
        except (Cart.DoesNotExist, CartItem.DoesNotExist):
            raise NotFound("Cart item not found.") from None
        return Response(CartItemSerializer(item).data)

    @extend_schema(tags=["carts"], summary="Remove an item from a cart", responses={204: None})
    def delete(self, request: Request, cart_id: UUID, item_id: int) -> Response:
        try:
            persist(lambda: carts.remove_line(cart_id, item_id, among=self.reachable()))
        except (Cart.DoesNotExist, CartItem.DoesNotExist):
            raise NotFound("Cart item not found.") from None
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema_view(
    list=extend_schema(tags=["orders"], summary="List orders"),
    retrieve=extend_schema(tags=["orders"], summary="Get an order"),
)
class OrderViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Order]):
    """Your orders, newest first; staff see all orders."""

    serializer_class = OrderSerializer
    queryset = Order.objects.none()
    lookup_value_regex = "[0-9]{1,18}"

    @property
    def throttle_scope(self) -> str | None:
        """Only checkouts are throttled."""
        return "checkout" if self.action == "create" else None

    def get_serializer_class(self) -> type[OrderSerializer]:
        return OrderInListSerializer if self.action == "list" else OrderSerializer

    def get_queryset(self) -> OrderQuerySet:
        orders = Order.objects.visible_to(self.request.user)
        if self.action == "list":
            return orders.with_sums()
        return orders.with_lines()

    def paginate_queryset(self, queryset: Any) -> Any:
        page = super().paginate_queryset(queryset)
        if page is not None:
            read_first_lines(page)
        return page

    @extend_schema(
        tags=["orders"],
        summary="Check out",
        request=CreateOrderSerializer,
        parameters=[IDEMPOTENCY_KEY, REPLAYED],
        responses={
            201: OpenApiResponse(OrderSerializer, description="The order has been placed."),
            200: OpenApiResponse(OrderSerializer, description="The order that was placed from this cart earlier."),
        },
    )
    def create(self, request: Request) -> Response:
        """Place an order from a cart. The cart is deleted; a second checkout of it returns the same order."""
        serializer = CreateOrderSerializer(data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        answer = persist(serializer.save)
        headers = {"Idempotent-Replayed": "true"} if answer.replayed else None
        return Response(answer.body, status=answer.status_code, headers=headers)

    @extend_schema(tags=["orders"], summary="Cancel an order", request=NothingSerializer, responses=OrderSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """
        Cancel an order that has not been shipped, and return its stock. A second request returns 409.

        Cancelling another customer's order requires the permission to change orders, as in the admin.
        """
        NothingSerializer(data=request.data).is_valid(raise_exception=True)
        cancellable: QuerySet[Any] = Order.objects.cancellable_by(request.user)
        try:
            persist(lambda: cancel_order(int(pk), among=cancellable))
        except Order.DoesNotExist:
            if Order.objects.visible_to(request.user).filter(pk=int(pk)).exists():
                raise PermissionDenied from None
            raise NotFound from None
        return Response(OrderSerializer(self.get_object()).data)

    @extend_schema(tags=["orders"], summary="List the tasks of an order", responses=OrderTasksSerializer)
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def tasks(self, request: Request, pk: str) -> Response:
        """
        Every durable task of this order, oldest first.

        Tasks created at the same moment have a stable order. Staff see the actual errors; customers see what the errors
        mean for them.
        """
        order = Order.objects.visible_to(request.user).filter(pk=int(pk)).only("id").first()
        if order is None:
            raise NotFound
        tasks = DurableTask.objects.filter(subject=order.subject).order_by("created_at", "name", "id")
        told = OrderTasksSerializer({"results": tasks}, context={"staff": request.user.is_staff})
        return Response(told.data)
