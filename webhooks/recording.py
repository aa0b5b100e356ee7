"""
Recording deliveries: one for each endpoint, in the transaction of the event.

Subscriptions are looked up every :data:`AGE` seconds and not for every order, so that a shop
without webhooks pays nothing for them. A new endpoint may therefore miss the events of its first seconds.
"""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import uuid4

from django.utils import timezone

from webhooks.models import TEST, Version, WebhookDelivery, WebhookEndpoint

#: Seconds for which a process caches subscriptions.
AGE: Final = 5.0
_known: tuple[float, frozenset[str]] = (-AGE, frozenset())


def is_wanted(event: str) -> bool:
    """Whether an active endpoint subscribes to an event, cached for :data:`AGE` seconds."""
    global _known
    asked_at, events = _known
    if time.monotonic() - asked_at >= AGE:
        lists = WebhookEndpoint.objects.filter(active=True).values_list("events", flat=True)
        events = frozenset(name for names in lists for name in names)
        _known = (time.monotonic(), events)
    return event in events


def forget() -> None:
    """Clear this process's cache: an endpoint was changed here."""
    global _known
    _known = (-AGE, frozenset())


def record(event: str, facts: Iterable[tuple[str, Callable[[int], dict[str, Any]]]]) -> list[tuple[str, int]]:
    """
    Write the deliveries of an event, one for each endpoint and subject, in the current transaction.

    ``facts`` pairs each subject with a function that returns its payload in a version. Returns the subject and the id
    of each delivery, which is then to be enqueued.
    """
    endpoints = [each for each in WebhookEndpoint.objects.filter(active=True) if event in each.events]
    if not endpoints:
        return []
    versions = {endpoint.version for endpoint in endpoints}
    deliveries = []
    for subject, tell in facts:
        told = {version: tell(version) for version in versions}
        deliveries += [make(endpoint, event, subject, told[endpoint.version]) for endpoint in endpoints]
    rows = WebhookDelivery.objects.bulk_create(deliveries)
    return [(row.subject, row.pk) for row in rows]


def record_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """Write a test delivery without content."""
    delivery = make(endpoint, TEST, "", {"webhook": endpoint.pk})
    delivery.save()
    return delivery


def make(endpoint: WebhookEndpoint, event: str, subject: str, data: dict[str, Any]) -> WebhookDelivery:
    """Return an unsaved delivery, with a stable id and the body that every attempt sends."""
    version = {} if endpoint.version == Version.FIRST else {"version": endpoint.version}
    body = {"type": event, **version, "timestamp": timezone.now().isoformat(), "data": data}
    return WebhookDelivery(
        endpoint=endpoint, event=event, subject=subject, message_id=f"msg_{uuid4().hex}", body=json.dumps(body)
    )
