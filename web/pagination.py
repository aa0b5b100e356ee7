"""Pagination: ``{count, next, previous, results}``."""

from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request


class Pages(PageNumberPagination):
    """
    ``?page=``, and ``?page_size=``: 20 by default, at most 100.

    A page that does not exist is a 404, an invalid page size a 400.
    """

    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = 100

    def get_page_size(self, request: Request) -> int:
        text = request.query_params.get("page_size")
        if text is None:
            return self.page_size
        if not text.isascii() or not text.isdigit() or not text.strip("0"):
            raise ValidationError({"page_size": ["Must be at least 1."]})
        return int(text) if len(text) <= 3 and int(text) < self.max_page_size else self.max_page_size

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            parameter["schema"]["minimum"] = 1
        return parameters

    def get_page_number(self, request: Request, paginator: Any) -> Any:
        """Return the requested page; an empty value is a page that does not exist."""
        return request.query_params.get(self.page_query_param, 1)
