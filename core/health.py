"""
Whether this web process lives, and whether it can do its work.

Orders need the database and nothing else. A broker that is away, a relay or worker that is stalled and
schedules that are late are named and do not take the process out of service: they will catch up.
"""

import logging
import socket
from collections import Counter
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from worker import watchdog
from worker.due_times import late_schedules

logger = logging.getLogger(__name__)

#: Seconds that the broker is given to answer.
PATIENCE: Final = 0.5
OK: Final = "ok"


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Answer 200: the process runs."""
    return JsonResponse({"status": OK})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """
    Answer 200 if orders can be taken, else 503, with the state of each part.

    ``status`` is ``ok``, ``degraded`` (orders are taken, what follows from them has to wait) or
    ``unavailable``.
    """
    parts = {"database": state_of_database(), "broker": state_of_broker()}
    if parts["database"] == OK:
        parts["schedules"] = state_of_schedules()
        parts |= states_of_machinery()
    failing = [name for name, state in parts.items() if state != OK]
    if "database" in failing:
        body = {"status": "unavailable", "failing": failing, "parts": parts}
        return JsonResponse(body, status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "2"})
    return JsonResponse({"status": "degraded" if failing else OK, "failing": failing, "parts": parts})


def state_of_database() -> str:
    """Return ``ok``, or ``unreachable`` if the database does not answer a query."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The database does not answer: %s", error)
        return "unreachable"
    return OK


def state_of_schedules() -> str:
    """Return ``ok``, or ``late`` if one did not run when it was due: beat is away."""
    return "late" if next(late_schedules(), None) else OK


def states_of_machinery() -> dict[str, str]:
    """Return ``ok`` or how much is wrong with relays, workers, queues and clock; staff are told what."""
    parts = dict.fromkeys(("relay", "workers", "queues", "clock"), OK)
    found = [*watchdog.of_relays(), *watchdog.of_workers(), *watchdog.of_queues(), *watchdog.of_clock()]
    for part, count in Counter(problem.part for problem in found).items():
        parts[part] = f"{count} problem{'s' if count > 1 else ''}"
    return parts


def state_of_broker() -> str:
    """Return ``ok``, or ``unreachable`` if the broker does not answer within half a second."""
    url = settings.CELERY_BROKER_URL
    try:
        if url.startswith("redis"):
            with redis.Redis.from_url(
                url.replace("redis+socket://", "unix://"), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
            ) as client:
                client.ping()
        else:
            broker = urlsplit(url)
            with socket.create_connection((broker.hostname or "localhost", broker.port or 5672), timeout=PATIENCE):
                pass
    except (redis.RedisError, OSError) as error:
        logger.warning("The broker does not answer: %s", type(error).__name__)
        return "unreachable"
    return OK
