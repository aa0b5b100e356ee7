"""Sales figures over HTTP, for staff."""

from datetime import date
from functools import cached_property
from typing import Any

from django.db.models import Count, F, QuerySet, Sum
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAdminUser
from rest_framework.settings import api_settings

from analytics_app.models import DailySales, SaleRecord


class SalesQuery(serializers.Serializer[dict[str, Any]]):
    """Query parameters: days in UTC, both inclusive."""

    to = serializers.DateField(required=False, help_text="The last day, in UTC.")
    group = serializers.ChoiceField(choices=["day", "product", "country"], default="day")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        first = serializers.DateField(required=False, help_text="The first day, in UTC.")
        return {"from": first, **super().get_fields()}  # `from` is a keyword of Python.

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("from", date.min) > attrs.get("to", date.max):
            raise serializers.ValidationError({"from": ["The first day must not be after the last."]})
        return attrs


class Figures(serializers.Serializer[dict[str, Any]]):
    """The figures of one row. Cancelled orders do not count."""

    orders = serializers.IntegerField()
    units = serializers.IntegerField()
    revenue = serializers.DecimalField(max_digits=24, decimal_places=2)
    currency = serializers.CharField()


class DaySalesSerializer(Figures):
    day = serializers.DateField()


class ProductSalesSerializer(Figures):
    product = serializers.IntegerField()
    sku = serializers.CharField()
    title = serializers.CharField()


class CountrySalesSerializer(Figures):
    country = serializers.CharField(help_text="Empty for customers who named none.")


class SalesPages(api_settings.DEFAULT_PAGINATION_CLASS):  # type: ignore[name-defined]
    """Pagination with longer pages."""

    page_size = 100
    max_page_size = 1_000


@extend_schema(
    summary="Sales by day, product or country",
    parameters=[SalesQuery],
    responses=PolymorphicProxySerializer(
        component_name="Sales",
        serializers=[DaySalesSerializer, ProductSalesSerializer, CountrySalesSerializer],
        resource_type_field_name=None,
    ),
)
class SalesView(ListAPIView[Any]):
    """
    Orders, units and revenue by group: one row per group and currency. Cancelled orders do not count.

    Days are in chronological order; products and countries are sorted by revenue, highest first.
    """

    permission_classes = [IsAdminUser]
    pagination_class = SalesPages
    filter_backends = []

    def get_queryset(self) -> QuerySet[Any]:
        """Return the requested groups, as dictionaries."""
        return sales_by(self.query["group"], first=self.query.get("from"), last=self.query.get("to"))

    def get_serializer_class(self) -> type[Figures]:
        return {"day": DaySalesSerializer, "product": ProductSalesSerializer, "country": CountrySalesSerializer}[
            self.query["group"]
        ]

    @cached_property
    def query(self) -> dict[str, Any]:
        """The validated query parameters; raises a ValidationError by field."""
        asked = SalesQuery(data=self.request.query_params.dict())  # As form data, empty values would be ignored.
        asked.is_valid(raise_exception=True)
        query: dict[str, Any] = asked.validated_data
        return query


def sales_by(group: str, *, first: date | None = None, last: date | None = None) -> QuerySet[Any]:
    """
    Return sums of sales by ``day``, ``product`` or ``country``, from ``first`` to ``last`` day.

    An order of several products counts once for a day or country, and once for each of its products.
    """
    rows: QuerySet[Any]
    if group == "product":
        columns = DailySales.objects.values(
            "product", sku=F("product__sku"), title=F("product__title"), currency=F("product__currency")
        )
        rows = columns.annotate(orders=Sum("orders"), units=Sum("units"), revenue=Sum("revenue"))
    else:
        standing = SaleRecord.objects.filter(reversed_at=None).values(group, "currency")
        rows = standing.annotate(orders=Count("pk"), units=Sum("units"), revenue=Sum("revenue"))
    if first is not None:
        rows = rows.filter(day__gte=first)
    if last is not None:
        rows = rows.filter(day__lte=last)
    return rows.order_by(*(["day", "currency"] if group == "day" else ["-revenue", group]))
