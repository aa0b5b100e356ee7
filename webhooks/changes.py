"""Actions on endpoints and deliveries: rotate the secret, send a test, deliver again."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from webhooks import log, recording, tasks
from webhooks.models import WebhookDelivery, WebhookEndpoint
from webhooks.signing import make_secret


def rotate(endpoint_id: int) -> WebhookEndpoint:
    """
    Rotate an endpoint's secret. The old one also signs, for ``WEBHOOK_SECRET_OVERLAP_HOURS``.

    Raises:
        WebhookEndpoint.DoesNotExist: there is no such endpoint.
    """
    with transaction.atomic():
        endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint_id)
        endpoint.previous_secret, endpoint.secret = endpoint.secret, make_secret()
        endpoint.previous_until = timezone.now() + timedelta(hours=settings.WEBHOOK_SECRET_OVERLAP_HOURS)
        endpoint.save(update_fields=["secret", "previous_secret", "previous_until"])
    return endpoint


def test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """
    Send an endpoint a test event.

    Raises:
        log.SwitchedOffError: the endpoint is disabled.
    """
    if not endpoint.active:
        raise log.SwitchedOffError
    with transaction.atomic():
        delivery = recording.record_test(endpoint)
        tasks.deliver.delay(delivery.pk)
    return delivery


def redeliver(delivery_id: int) -> None:
    """Send a settled delivery again, under its id; raises what :func:`webhooks.log.reopen` does."""
    with transaction.atomic():
        log.reopen(delivery_id)
        tasks.deliver.delay(delivery_id)
