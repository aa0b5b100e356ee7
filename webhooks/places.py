"""
The order of deliveries, and how many of an endpoint are in progress at once.

Each endpoint has ``WEBHOOK_CONCURRENCY`` places, so that a slow one holds no more workers than that. A delivery that
finds none free waits without a task. A delivery that leaves its place enqueues the next one, in the transaction that
records its own result. A place held by a killed worker becomes free after its task's time limit.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from celery_ledger.desk.limits import KEY, Limit
from celery_ledger.desk.searching import Count as Waiting
from celery_ledger.retries import PATIENT, policy
from notifications.announce import notify
from notifications.models import Kind
from store.managers import managers
from webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from webhooks.sending import Outcome

Status = WebhookDelivery.Status
#: After this many failed attempts a delivery is given up, unless an operator redelivers it.
MOST_TRIES: Final = policy(PATIENT).retries + 1
#: How many endpoints operators are shown, those with the most waiting deliveries first.
MOST_LISTED: Final = 50
SWITCHED_OFF: Final = "The endpoint is switched off."


def enter(delivery_id: int) -> WebhookDelivery | None:
    """
    Return a delivery to send now, with its endpoint, or None: it is settled, gone, or must wait.

    A delivery whose endpoint is switched off is settled as failed, and so is every one that waits alongside it.
    """
    with transaction.atomic():
        endpoint = _locked(delivery_id)
        delivery = WebhookDelivery.objects.filter(pk=delivery_id, status=Status.PENDING).first()
        if endpoint is None or delivery is None:
            return None
        if not endpoint.active:
            _give_up(endpoint.deliveries.filter(Q(pk=delivery_id) | Q(waiting=True), status=Status.PENDING))
            return None
        if _free_places(endpoint, but=delivery_id) < 1 or not _ready(endpoint).filter(pk=delivery_id).exists():
            WebhookDelivery.objects.filter(pk=delivery_id).update(waiting=True)
            return None
        until = timezone.now() + timedelta(seconds=settings.TASK_TIME_LIMIT)
        WebhookDelivery.objects.filter(pk=delivery_id).update(claimed_until=until, waiting=False, tries=F("tries") + 1)
        delivery.refresh_from_db()
        delivery.endpoint = endpoint
        return delivery


def leave(delivery: WebhookDelivery, outcome: Outcome, *, token: UUID) -> tuple[bool, list[int]]:
    """
    Record an attempt; return whether another follows, and the deliveries that may now be sent.

    They must be enqueued in the surrounding transaction. An endpoint that has only failed for
    ``WEBHOOK_DISABLE_AFTER_DAYS``, or answers that it is gone, is disabled and its owner notified. Repeatable with the
    same     ``token``.
    """
    now = timezone.now()
    endpoint = _locked(delivery.pk)
    if endpoint is None:
        return False, []
    WebhookAttempt.objects.get_or_create(
        delivery_id=delivery.pk,
        token=token,
        defaults={
            "status_code": outcome.status_code,
            "milliseconds": outcome.milliseconds,
            "answer": outcome.answer,
            "error": outcome.error,
        },
    )
    row = WebhookDelivery.objects.filter(pk=delivery.pk)
    if not outcome.error:
        row.update(status=Status.DELIVERED, settled_at=now, claimed_until=None, error="")
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(failing_since=None)
        return False, next_of(endpoint)
    again = endpoint.active and not outcome.is_gone and delivery.tries < MOST_TRIES
    status = Status.PENDING if again else Status.FAILED
    row.update(status=status, settled_at=None if again else now, claimed_until=None, error=outcome.error)
    since = endpoint.failing_since or now
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(failing_since=since)
    too_long = now - since >= timedelta(days=settings.WEBHOOK_DISABLE_AFTER_DAYS)
    if endpoint.active and (too_long or outcome.is_gone):
        _disable(endpoint, outcome.error)
    return again, next_of(endpoint)


def next_of(endpoint: WebhookEndpoint) -> list[int]:
    """Return the ids of waiting deliveries to enqueue now, in the current transaction."""
    free = max(0, _free_places(endpoint))
    ids = list(_ready(endpoint).filter(waiting=True).order_by("pk").values_list("pk", flat=True)[:free])
    WebhookDelivery.objects.filter(pk__in=ids).update(waiting=False)
    return ids


def left_behind(*, older_than: timedelta) -> list[int]:
    """Return the ids of deliveries to enqueue now: they have waited too long for another delivery to wake them."""
    waiting = WebhookDelivery.objects.filter(
        status=Status.PENDING, waiting=True, created_at__lt=timezone.now() - older_than
    )
    return [
        id
        for endpoint in WebhookEndpoint.objects.filter(Exists(waiting.filter(endpoint=OuterRef("pk"))))
        for id in next_of(endpoint)
    ]


def limits() -> list[Limit]:
    """Return the limit of each busy endpoint, and how many of its deliveries wait because of it."""
    now = timezone.now()
    pending = WebhookDelivery.objects.filter(status=Status.PENDING).filter(Q(waiting=True) | Q(claimed_until__gt=now))
    busy = (
        pending.order_by()
        .values("endpoint")
        .annotate(waiting=Count("pk", filter=Q(waiting=True)), under_way=Count("pk", filter=Q(claimed_until__gt=now)))
    )
    return [
        Limit(
            kind=KEY,
            name=f"webhooks.webhookendpoint:{each['endpoint']}",
            per_second=None,
            concurrency=int(settings.WEBHOOK_CONCURRENCY),
            said="",
            by_operator=False,
            under_way=each["under_way"],
            held_back=Waiting(each["waiting"]),
            until=None,
        )
        for each in busy.order_by("-waiting", "endpoint")[:MOST_LISTED]
    ]


def _locked(delivery_id: int) -> WebhookEndpoint | None:
    """Return a delivery's endpoint, locked until the commit: other deliveries neither enter nor leave."""
    locked = WebhookEndpoint.objects.select_for_update(of=("self",), no_key=True)
    return locked.filter(deliveries__pk=delivery_id).first()


def _free_places(endpoint: WebhookEndpoint, *, but: int = 0) -> int:
    taken = endpoint.deliveries.filter(status=Status.PENDING, claimed_until__gt=timezone.now()).exclude(pk=but)
    return int(settings.WEBHOOK_CONCURRENCY) - taken.count()


def _ready(endpoint: WebhookEndpoint) -> QuerySet[WebhookDelivery]:
    """Return the deliveries that need not wait for an earlier one with the same subject."""
    pending = WebhookDelivery.objects.filter(endpoint=endpoint, status=Status.PENDING)
    if not endpoint.ordered:
        return pending
    earlier = pending.filter(subject=OuterRef("subject"), pk__lt=OuterRef("pk")).exclude(subject="")
    return pending.exclude(Exists(earlier))


def _give_up(deliveries: QuerySet[WebhookDelivery]) -> None:
    deliveries.update(
        status=Status.FAILED, settled_at=timezone.now(), error=SWITCHED_OFF, waiting=False, claimed_until=None
    )


def _disable(endpoint: WebhookEndpoint, error: str) -> None:
    now = timezone.now()
    endpoint.active, endpoint.disabled_at = False, now
    endpoint.save(update_fields=["active", "disabled_at"])  # Not with update(), so that the audit trail records it.
    told = [endpoint.owner_id] if endpoint.owner_id else list(managers().values_list("pk", flat=True))
    notify(
        told,
        kind=Kind.WEBHOOK_DISABLED,
        message=f"The webhook endpoint {endpoint.pk} was disabled because it kept failing. Last error: {error}",
        data={"webhook": endpoint.pk},
        key=f"{Kind.WEBHOOK_DISABLED}:{endpoint.pk}:{now.isoformat()}",
    )
