"""What people decide about endpoints and deliveries: another secret, a test, one more try."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from webhooks import log, recording, tasks
from webhooks.models import WebhookDelivery, WebhookEndpoint
from webhooks.signing import make_secret


def rotate(endpoint_id: int) -> WebhookEndpoint:
    """
    Give an endpoint a new secret. The one before signs too, for ``WEBHOOK_SECRET_OVERLAP_HOURS``.

    Raises:
        WebhookEndpoint.DoesNotExist: there is none.
    """
    with transaction.atomic():
        endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint_id)
        endpoint.previous_secret, endpoint.secret = endpoint.secret, make_secret()
        endpoint.previous_until = timezone.now() + timedelta(hours=settings.WEBHOOK_SECRET_OVERLAP_HOURS)
        endpoint.save(update_fields=["secret", "previous_secret", "previous_until"])
    return endpoint


def test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """
    Have an endpoint sent an event that says nothing.

    Raises:
        log.SwitchedOffError: it takes none.
    """
    if not endpoint.active:
        raise log.SwitchedOffError
    with transaction.atomic():
        delivery = recording.record_test(endpoint)
        tasks.deliver.delay(delivery.pk)
    return delivery


def redeliver(delivery_id: int) -> None:
    """Have a settled delivery sent again, under its id; raises what :func:`webhooks.log.reopen` does."""
    with transaction.atomic():
        log.reopen(delivery_id)
        tasks.deliver.delay(delivery_id)
