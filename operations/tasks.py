"""The audit as a durable task. A schedule calls it by a name that predates this module."""

import logging
import time
from typing import Final

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from celery_ledger.promises import promises as registered_promises
from notifications.announce import notify
from notifications.models import Kind
from store.managers import managers

logger = logging.getLogger(__name__)

#: How long one task looks at promises before it leaves the rest to the next, in seconds.
TURN: Final = 20.0
#: How often a promise that looks broken is checked again before anyone is notified, and after how many seconds.
LOOKS_AGAIN, PAUSE = 2, 60


@shared_task(
    name="core.tasks.verify_promises",
    queue="scheduled",
    transactional=False,
    soft_time_limit=1_740,
    time_limit=1_800,
)
def verify_promises(
    promises: list[str] | None = None, broken: dict[str, int] | None = None, looks: int = 0
) -> dict[str, int]:
    """
    Run the audit of ``manage.py outbox verify``, and notify the managers of broken promises.

    It checks a few promises and enqueues the rest as another task, so that no process is held for long.
    What looks broken may be work in progress, so it is checked again before anyone is notified. Returns the number
    of lines of each broken promise so far. Repeatable: the managers are notified once a day.
    """
    known, broken, end = registered_promises(), broken or {}, time.monotonic() + TURN
    rest = [promise for promise in (known if promises is None else promises) if promise in known]
    while rest:
        promise = rest.pop(0)
        if lines := list(known[promise]()):
            broken[promise] = len(lines)
            logger.error("Possibly broken: %s %s", promise, "; ".join(lines[:10]))
        if time.monotonic() > end:
            break
    if rest:
        verify_promises.delay(rest, broken, looks)
    elif broken and looks < LOOKS_AGAIN:
        verify_promises.apply_async((list(broken), {}, looks + 1), countdown=PAUSE)
    elif broken:
        with transaction.atomic():
            notify(
                managers().values_list("pk", flat=True),
                kind=Kind.PROMISE_BROKEN,
                message=f"`outbox verify` found {len(broken)} broken promises. The first: {next(iter(broken))}"[:500],
                data=broken,
                key=f"{Kind.PROMISE_BROKEN}:{timezone.now().date()}",
            )
    return broken
