"""
Alerts that no task can send, because no worker or no relay is running. Called by the process that notices.

The notification is written as usual, with a task for each of its deliveries. These deliveries are made here as well, at
once, except to readers who have quiet hours; the tasks later find them made. A delivery that failed is retried at the
next call.
"""

import logging
from collections.abc import Callable
from typing import Final

from celery_ledger import clock
from celery_ledger.models import Heartbeat
from celery_ledger.watch import watchdog
from notifications import push, texts, trouble
from notifications.models import Channel, Kind, NotificationDelivery, QuietHours
from notifications.preferences import end_of_quiet

logger = logging.getLogger(__name__)

#: The functions that make a delivery, given its id.
Deliver = Callable[[int], None]
_ways: Final[dict[str, Deliver]] = {Channel.PUSH: push.deliver, Channel.SMS: texts.deliver}


def register(channel: Channel, deliver: Deliver) -> None:
    """Register ``deliver`` for urgent deliveries by this channel; it must be repeatable."""
    _ways[channel] = deliver


def tell_of_missing(kind: Heartbeat.Kind) -> None:
    """Notify the managers, once an hour, that no process of this kind is running."""
    trouble.tell_of(trouble.named([watchdog.MISSING[kind]]))
    for delivery_id, channel in _waiting():
        try:
            _ways[channel](delivery_id)
        except Exception as error:  # noqa: BLE001 - one mail server or address that fails delays no other alert
            logger.warning("The alert of delivery %d cannot be sent by %s now: %r", delivery_id, channel, error)


def _waiting() -> list[tuple[int, str]]:
    """Return the pending alerts of the last hour for readers who have no quiet hours now."""
    now = clock.now()
    pending = NotificationDelivery.objects.filter(
        status=NotificationDelivery.Status.PENDING,
        notification__kind=Kind.TROUBLE,
        notification__created__gt=now - trouble.AGAIN_AFTER,
    )
    rows = list(pending.order_by("pk").values_list("pk", "channel", "notification__user"))
    hours = QuietHours.objects.filter(user__in={user for _, _, user in rows})
    quiet = {each.user_id for each in hours if end_of_quiet(each, now) is not None}
    return [(pk, channel) for pk, channel, user in rows if user not in quiet]
