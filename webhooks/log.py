"""The log of deliveries: redelivery, and pruning."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from webhooks.models import WebhookDelivery

#: How many rows one transaction deletes.
BATCH: Final = 500
Status = WebhookDelivery.Status


class NotSettledError(Exception):
    """The delivery is still in progress."""


class SwitchedOffError(Exception):
    """The delivery's endpoint is disabled."""


def reopen(delivery_id: int) -> None:
    """
    Reopen a settled delivery, under its id, with as many attempts as a new one. The caller enqueues it.

    Raises:
        WebhookDelivery.DoesNotExist: there is no such delivery.
        NotSettledError: it is pending.
        SwitchedOffError: its endpoint is disabled.
    """
    with transaction.atomic():
        rows = WebhookDelivery.objects.select_for_update(of=("self",), no_key=True).select_related("endpoint")
        delivery = rows.get(pk=delivery_id)
        if delivery.status == Status.PENDING:
            raise NotSettledError
        if not delivery.endpoint.active:
            raise SwitchedOffError
        WebhookDelivery.objects.filter(pk=delivery_id).update(
            status=Status.PENDING, settled_at=None, tries=0, error="", waiting=False
        )


def prune(*, older_than: timedelta) -> Iterator[int]:
    """Delete old settled deliveries in small transactions; yield the number deleted in each."""
    old = WebhookDelivery.objects.filter(created_at__lt=timezone.now() - older_than).exclude(status=Status.PENDING)
    while ids := list(old.order_by("created_at").values_list("pk", flat=True)[:BATCH]):
        WebhookDelivery.objects.filter(pk__in=ids).delete()
        yield len(ids)
