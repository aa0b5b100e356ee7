"""
Alerts to managers about the machinery and failing tasks, without Prometheus.

Called by a task, and by :mod:`notifications.urgent` if no task would run.

The notifications of the last hour say what managers already know, so nothing else is stored: the same trouble is
reported once an hour, new trouble at the next check, and lasting trouble that no manager has read is reported to the
superusers.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import QuerySet

from celery_ledger import clock
from celery_ledger.watch import failing, watchdog
from notifications.announce import notify, wait_for_turn
from notifications.models import Kind, Notification
from notifications.preferences import preferences_of
from store.managers import managers

#: A task that has failed for less time than this may still succeed at its next attempt.
FAILS_FOR: Final = timedelta(minutes=2)
#: Lasting trouble is reported again after this time.
AGAIN_AFTER: Final = timedelta(hours=1)
#: Trouble that lasts this long, and that no manager has read about, is reported to the superusers.
ESCALATED_AFTER: Final = timedelta(minutes=30)
LONGEST: Final = 500
TEST: Final = "This is a test. Alerts about the operation of the shop reach you in this way."
UNREAD: Final = "No manager has read this for 30 minutes. "


def tell() -> int:
    """
    Notify the managers of current problems, in one notification, and return how many were new to them.

    If there are no managers, the superusers are notified.
    """
    now = clock.now()
    failed = [each for each in failing.failing() if now - each.since >= FAILS_FOR]
    return tell_of({**named(watchdog.problems()), **{f"failing {each.task}": each.in_words(now) for each in failed}})


@transaction.atomic
def tell_of(trouble: Mapping[str, str]) -> int:
    """Notify as :func:`tell` does, of these problems, whose names stay the same while they last."""
    wait_for_turn()  # Two processes that report the same trouble would both find it new.
    now = clock.now()
    told = list(Notification.objects.filter(kind=Kind.TROUBLE, created__gt=now - AGAIN_AFTER).order_by("pk"))
    known = _names(told)
    new = {name: text for name, text in trouble.items() if name not in known}
    if new:
        _tell(managers() if managers().exists() else _superusers(), new, now)
    waiting = [each for each in told if not each.data["escalated"] and each.created <= now - ESCALATED_AFTER]
    heard = _names(each for each in told if each.data["escalated"] or each.read)
    left = {name: text for name, text in trouble.items() if name in _names(waiting) - heard}
    if left:
        _tell(_superusers(), left, now, lead=UNREAD)
    return len(new)


def test(user_id: int) -> list[str]:
    """Send a user a test alert, and return the channels that are on for it."""
    notify([user_id], kind=Kind.TROUBLE, message=TEST, data={"trouble": [], "escalated": False})
    return [channel for channel, is_on in preferences_of(user_id)[Kind.TROUBLE].items() if is_on]


def named(problems: Iterable[watchdog.Problem]) -> dict[str, str]:
    """Return the current problems in words, under names that stay the same while they last."""
    return {f"{problem.part} {problem.stalled or _without_figures(problem.text)}": problem.text for problem in problems}


def _without_figures(text: str) -> str:
    return re.sub(r"[\d.:+-]+", "#", text)


def _names(notifications: Iterable[Notification]) -> set[str]:
    return {name for each in notifications for name in each.data["trouble"]}


def _superusers() -> QuerySet[Any]:
    return get_user_model()._default_manager.filter(is_superuser=True, is_active=True).order_by("pk")


def _tell(readers: QuerySet[Any], trouble: dict[str, str], now: datetime, *, lead: str = "") -> None:
    names = sorted(trouble)
    notify(
        list(readers.values_list("pk", flat=True)),
        kind=Kind.TROUBLE,
        message=(lead + " ".join(_as_sentence(trouble[name]) for name in names))[:LONGEST],
        data={"trouble": names, "escalated": bool(lead)},
        key=f"{Kind.TROUBLE}:{now:%Y-%m-%dT%H:%M}:{'again' if lead else 'first'}",
    )


def _as_sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
