"""
Notifications by Web Push: encrypted for each browser of the reader (RFC 8291), and signed (RFC 8292).

Each browser gets it at least once, and nearly always exactly once; the notification's id is the push's tag, so that a
second copy replaces the first. A browser whose subscription has ended is forgotten.
"""

import http.client
import json
import logging
import time
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings

from notifications import push_services, vapid
from notifications.deliveries import Status, note_reached, open_delivery, settle
from notifications.models import Notification, NotificationDelivery, PushSubscription

logger = logging.getLogger(__name__)

#: How long a push service keeps it for a browser that is offline, in seconds.
TIME_TO_LIVE: Final = 24 * 3600
#: Push services accept 4,096 bytes, including what encryption adds (RFC 8291, section 4).
MAX_PAYLOAD: Final = 3_000  # bytes
#: How many browsers of one person receive pushes; a new one replaces the oldest.
MOST_BROWSERS: Final = 10
GONE: Final = "The browser's subscription has expired."


class PushDeferredError(Exception):
    """The push service asks for a retry, after ``wait`` seconds if it said so, or did not answer."""

    def __init__(self, reason: str, wait: float | None) -> None:
        super().__init__(reason)
        self.wait = wait


def subscribe(user: Any, *, endpoint: str, p256dh: str, auth: str) -> PushSubscription:
    """Subscribe a browser to the pushes of ``user``, in place of any earlier user."""
    # Knowing its secret proves access to the browser; knowing only the address changes nothing.
    PushSubscription.objects.filter(endpoint=endpoint, auth=auth).exclude(user=user).delete()
    subscription, _ = PushSubscription.objects.update_or_create(
        user=user, endpoint=endpoint, defaults={"p256dh": p256dh, "auth": auth}
    )
    newest = user.push_subscriptions.order_by("-pk").values_list("pk", flat=True)[:MOST_BROWSERS]
    user.push_subscriptions.exclude(pk__in=list(newest)).delete()
    return subscription


def deliver(delivery_id: int) -> None:
    """
    Push a notification to every browser of its reader that has not taken it, and record its outcome.

    Raises:
        PushDeferredError: some are to be tried again.
    """
    delivery = open_delivery(delivery_id)
    if delivery is None:
        return
    if vapid.private_key() is None:
        settle(delivery, Status.SKIPPED, "The shop cannot sign push messages: VAPID_PRIVATE_KEY is not set.")
        return
    problems: list[str] = []
    deferred: list[PushDeferredError] = []
    payload = payload_of(delivery.notification)
    topic = f"notification-{delivery.notification_id}"
    browsers = PushSubscription.objects.filter(user=delivery.notification.user).exclude(pk__in=delivery.reached)
    for browser in browsers.order_by("pk"):
        try:
            if problem := _push(browser, payload, topic=topic):
                problems.append(problem)
            else:
                note_reached(delivery, browser.pk)
        except PushDeferredError as error:
            deferred.append(error)
    if deferred:
        settle(delivery, Status.PENDING, str(deferred[0]))
        raise max(deferred, key=lambda error: error.wait or 0)
    _conclude(delivery, problems)


def _conclude(delivery: NotificationDelivery, problems: list[str]) -> None:
    if delivery.reached:
        settle(delivery, Status.SENT)
    elif problems and set(problems) != {GONE}:
        settle(delivery, Status.FAILED, next(problem for problem in problems if problem != GONE))
    else:
        settle(delivery, Status.SKIPPED, "No browser is subscribed any more.")


def payload_of(notification: Notification) -> bytes:
    """Return the payload for the service worker: JSON of limited size."""
    words = {
        "id": notification.pk,
        "kind": notification.kind,
        "title": "Shopwire",
        "body": notification.message,
        "data": notification.data,
    }
    payload = json.dumps(words).encode()
    if len(payload) > MAX_PAYLOAD:
        words |= {"data": {}, "body": notification.message[:200]}
        payload = json.dumps(words).encode()
    return payload


def _push(browser: PushSubscription, payload: bytes, *, topic: str) -> str | None:
    """
    Push to one browser. Return None if it was accepted, :data:`GONE`, or the permanent error.

    Raises:
        PushDeferredError: not now.
    """
    try:
        headers = _headers(push_services.check_endpoint(browser.endpoint), topic=topic)
        answer = push_services.post(browser.endpoint, _encrypt(browser, payload), headers)
    except push_services.NoPushServiceError as error:
        return str(error)
    except (OSError, http.client.HTTPException) as error:
        raise PushDeferredError(f"The push service did not answer: {type(error).__name__}.", None) from None
    if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        browser.delete()
        return GONE
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    if answer.status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or answer.status >= 500:
        raise PushDeferredError(f"The push service answered {answer.status}.", answer.retry_after)
    return f"The push service refused it: {answer.status}."


def _encrypt(browser: PushSubscription, payload: bytes) -> bytes:
    from pywebpush import WebPusher  # It imports an HTTP client, which web processes need not load.

    keys = {"p256dh": browser.p256dh, "auth": browser.auth}
    body: bytes = WebPusher({"endpoint": browser.endpoint, "keys": keys}).encode(payload, "aes128gcm")["body"]
    return body


def _headers(host: str, *, topic: str) -> dict[str, str]:
    from py_vapid import Vapid02

    claims = {
        "aud": f"https://{host}",
        "exp": int(time.time()) + 12 * 3600,
        "sub": settings.VAPID_SUBJECT,
    }
    signed: dict[str, str] = Vapid02(vapid.private_key()).sign(claims)
    return {
        **signed,
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "Topic": topic,  # A second copy replaces one that still waits for the browser (RFC 8030, 5.4).
        "TTL": str(TIME_TO_LIVE),
        "Urgency": "normal",
    }
