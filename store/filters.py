"""Filters and ordering of the catalogue. Invalid parameters are errors."""

from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import F, Q, QuerySet
from django_filters import rest_framework as filters
from django_filters.fields import ChoiceField

from store.models import Product
from web.fields import MAX_ID

MAX_SEARCH_LENGTH = 200
#: Each word is searched in every title and SKU: with a hundred words, twenty clients could keep a database busy.
MAX_SEARCH_WORDS = 12


class CollectionFilter(filters.Filter):
    field_class = forms.IntegerField


class NamedChoiceField(ChoiceField):
    """One or more choices, separated by commas; an empty value between commas is an error."""

    def clean(self, value: Any) -> Any:
        if value == "":
            raise forms.ValidationError("A value is missing between two commas.")
        return super().clean(value)


class StableOrderingFilter(filters.OrderingFilter):
    """Orders by the requested fields, then by id, so that pages do not overlap."""

    field_class = NamedChoiceField

    def filter(self, qs: QuerySet[Product], value: Any) -> QuerySet[Product]:
        return super().filter(qs, list(dict.fromkeys([*value, "id"]))) if value else qs

    def get_ordering_value(self, param: str) -> Any:
        return "id" if param == "id" else super().get_ordering_value(param)


class FilledForm(forms.Form):
    """A form that refuses empty filters, except an empty search, and overlong searches."""

    def clean(self) -> dict[str, Any]:
        if len((self.cleaned_data.get("search") or "").split()) > MAX_SEARCH_WORDS:
            self.add_error("search", f"A search has at most {MAX_SEARCH_WORDS} words.")
        for name in self.fields:
            if name != "search" and self.data.get(name) == "":
                self.add_error(name, "This filter has no value.")
        return super().clean() or self.cleaned_data


class ProductFilter(filters.FilterSet):
    search = filters.CharFilter(method="filter_search", max_length=MAX_SEARCH_LENGTH)
    collection = CollectionFilter(field_name="collection_id", min_value=1, max_value=MAX_ID)
    min_price = filters.NumberFilter(
        field_name="unit_price", lookup_expr="gte", min_value=Decimal(0), max_digits=12, decimal_places=2
    )
    max_price = filters.NumberFilter(
        field_name="unit_price", lookup_expr="lte", min_value=Decimal(0), max_digits=12, decimal_places=2
    )
    in_stock = filters.TypedChoiceFilter(
        method="filter_in_stock",
        choices=[("true", "true"), ("false", "false"), ("1", "1"), ("0", "0")],
        coerce={"true": True, "1": True, "false": False, "0": False}.__getitem__,
    )
    ordering = StableOrderingFilter(
        fields=["unit_price", "title", "sku", "available", "id"], help_text="Prefix with a minus for descending order."
    )

    class Meta:
        model = Product
        fields: list[str] = []
        form = FilledForm

    def filter_search(self, queryset: QuerySet[Product], name: str, value: str) -> QuerySet[Product]:
        for word in value.split():
            queryset = queryset.filter(Q(title__icontains=word) | Q(sku__icontains=word))
        return queryset

    def filter_in_stock(self, queryset: QuerySet[Product], name: str, value: bool) -> QuerySet[Product]:
        available = Q(stock__on_hand__gt=F("stock__reserved"))
        return queryset.filter(available) if value else queryset.exclude(available)
