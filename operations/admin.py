"""The ledger's desk in the shop: an order's tasks can be found by the order's number."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

import celery_ledger.contrib.admin.admin  # noqa: F401 - It registers what is replaced here.
from celery_ledger.contrib.admin.tasks import DurableTaskAdmin
from celery_ledger.models import DurableTask

admin.site.unregister(DurableTask)


@admin.register(DurableTask)
class ShopTaskAdmin(DurableTaskAdmin):
    """The desk's admin, extended by orders."""

    search_help_text = (
        "A task id, an order number, a subject such as store.order:42, a request id, a worker, "
        "or part of a task name or of an error."
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[DurableTask], search_term: str
    ) -> tuple[QuerySet[DurableTask], bool]:
        """Interpret a number as an order's."""
        number = search_term.strip().removeprefix("#")
        if number.isdecimal():
            return queryset.filter(subject=f"store.order:{number}"), False
        return super().get_search_results(request, queryset, search_term)
