"""
Preferences: which channels carry which notifications to a user, and quiet hours.

Promises that :data:`DEFAULTS` apply to whatever a user has not chosen, including kinds that are added later.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Value

from notifications.models import Channel, Kind, NotificationPreference, PushSubscription, QuietHours

#: The default for users who have chosen nothing. A push reaches only subscribed browsers.
DEFAULTS: Final[dict[str, bool]] = {Channel.IN_APP: True, Channel.EMAIL: False, Channel.PUSH: True, Channel.SMS: False}


def preferences_of(user_id: int) -> dict[str, dict[str, bool]]:
    """Return, for each kind and channel, whether a user wants it."""
    said = NotificationPreference.objects.filter(user_id=user_id)
    answer = {kind: dict(DEFAULTS) for kind in Kind.values}
    for kind, channel, enabled in said.values_list("kind", "channel", "enabled"):
        if kind in answer:
            answer[kind][channel] = enabled
    return answer


def save_preferences(user_id: int, wishes: Mapping[str, Mapping[str, bool]]) -> None:
    """Store a user's preferences in one statement; others stay unchanged."""
    NotificationPreference.objects.bulk_create(
        (
            NotificationPreference(user_id=user_id, kind=kind, channel=channel, enabled=enabled)
            for kind, channels in wishes.items()
            for channel, enabled in channels.items()
        ),
        update_conflicts=True,
        unique_fields=["user", "kind", "channel"],
        update_fields=["enabled"],
    )


def save_quiet_hours(user_id: int, wish: Mapping[str, Any] | None) -> None:
    """Store a user's quiet hours; None removes them."""
    with transaction.atomic():
        if wish is None:
            QuietHours.objects.filter(user_id=user_id).delete()
        else:
            QuietHours.objects.update_or_create(user_id=user_id, defaults=dict(wish))


class Wishes:
    """What some users want to hear of, over which channels; read in one query."""

    def __init__(self, user_ids: Iterable[int], kinds: Iterable[str]) -> None:
        users = set(user_ids)
        self._said: defaultdict[tuple[int, str], dict[str, bool]] = defaultdict(dict)
        self._subscribed: set[int] = set()
        said = NotificationPreference.objects.filter(user_id__in=users, kind__in=set(kinds))
        browsers = PushSubscription.objects.filter(user_id__in=users)
        rows = said.values_list("user_id", "kind", "channel", "enabled").union(
            browsers.values_list("user_id", Value(""), Value(""), Value(True)), all=True
        )
        for user_id, kind, channel, enabled in rows:
            if kind:
                self._said[user_id, kind][channel] = enabled
            else:
                self._subscribed.add(user_id)

    def wants(self, user_id: int, kind: str, channel: Channel) -> bool:
        """Whether a user wants a kind over a channel, and can have it: a push needs a subscribed browser."""
        if channel == Channel.PUSH and user_id not in self._subscribed:
            return False
        return self._said.get((user_id, kind), {}).get(channel, DEFAULTS[channel])


def end_of_quiet(hours: QuietHours, now: datetime) -> datetime | None:
    """Return the end of the quiet hours in effect at ``now``, or None."""
    there = now.astimezone(ZoneInfo(hours.time_zone))
    if not _within(hours.start, hours.end, there.time()):
        return None
    end = datetime.combine(there.date(), hours.end, tzinfo=there.tzinfo)
    return end if end > there else end + timedelta(days=1)


def _within(start: time, end: time, moment: time) -> bool:
    return start <= moment < end if start < end else moment >= start or moment < end
