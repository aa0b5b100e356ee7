"""
A test message through every queue at intervals: does any worker take messages from it?

Sent by the relays, one every ten seconds regardless of the number of relays; taken like any other message. While a
message has not come back, another follows after a minute and then after twice the time each time, so that a queue
without workers does not fill up: it has sixteen after a month.
"""

from collections.abc import Collection
from datetime import timedelta

from django.db.models import F, Q
from django.db.models.functions import Now

from celery_ledger.models import Canary
from celery_ledger.watch.samples import queue_names

INTERVAL = timedelta(seconds=10)
#: Time until a message that did not come back is followed by another: the broker may have lost it.
REPEAT_AFTER = timedelta(seconds=60)
#: A queue whose message has not come back for this long is not consumed.
LOST_AFTER = timedelta(seconds=20)

CAME_BACK = Q(seen_at__gte=F("sent_at"))


def due(queues: Collection[str]) -> list[str]:
    """Return those of ``queues`` through which this relay must send a message now, and record that it does."""
    known = set(Canary.objects.values_list("queue", flat=True))
    if new := [Canary(queue=queue, seen_at=Now()) for queue in queues if queue not in known]:
        Canary.objects.bulk_create(new, ignore_conflicts=True)  # The first goes out in ten seconds.
    chosen = []
    for queue in queues:
        mine = Canary.objects.filter(queue=queue, repeated_at__lt=Now() - INTERVAL)
        is_next = mine.filter(CAME_BACK).update(sent_at=Now(), repeated_at=Now())
        if is_next or _repeat(queue):
            chosen.append(queue)
    return chosen


def _repeat(queue: str) -> bool:
    """Record that another message follows one that has not come back, if due; True for only one of all relays."""
    lost = Canary.objects.filter(queue=queue).annotate(now=Now()).first()
    if lost is None or lost.now - lost.repeated_at < max(REPEAT_AFTER, lost.repeated_at - lost.sent_at):
        return False
    return Canary.objects.filter(queue=queue, repeated_at=lost.repeated_at).update(repeated_at=Now()) == 1


def seen(queue: str) -> None:
    """Record that a worker took the message of ``queue``."""
    Canary.objects.filter(queue=queue).update(seen_at=Now())


def start_anew() -> None:
    """Restart the time of every message that has not come back: the database or the broker was away meanwhile."""
    Canary.objects.exclude(CAME_BACK).update(sent_at=Now(), repeated_at=Now() - REPEAT_AFTER)


def unanswered() -> dict[str, float]:
    """Return the existing queues whose message has not come back, and for how many seconds."""
    lost = Canary.objects.exclude(CAME_BACK).filter(sent_at__lt=Now() - LOST_AFTER, queue__in=queue_names())
    return {
        row["queue"]: (row["now"] - row["sent_at"]).total_seconds()
        for row in lost.values("queue", "sent_at", now=Now())
    }
