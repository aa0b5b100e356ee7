"""
Health of the web process: whether it lives, and whether it can work.

Orders need only the database. An unavailable broker, a stalled relay or worker, and late schedules are reported but do
not take the process out of service: they will catch up.
"""

import logging
import socket
from collections import Counter
from http import HTTPStatus
from typing import Any, Final

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.sentinel import Sentinel

from celery_ledger.contrib.beat.due_times import late_schedules
from celery_ledger.watch import replication, watchdog
from web import broker_urls
from web.patience import leave_all

logger = logging.getLogger(__name__)

#: Seconds to wait for the broker's answer.
PATIENCE: Final = 0.5
OK: Final = "ok"
WAITING: Final = "waits for a synchronous standby"


def alive() -> JsonResponse:
    """
    Return the response of a live process.

    The web process answers it on its event loop (handler.py), without a thread or the database, whatever else is going
    on.
    """
    return JsonResponse({"status": OK}, headers={"Cache-Control": "no-store"})


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Answer 200: the process runs."""
    return alive()


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """
    Answer 200 if orders can be taken, otherwise 503, with the state of each part.

    ``status`` is ``ok``, ``degraded`` (orders are taken, what follows from them has to wait) or
    ``unavailable``.
    """
    parts = {"database": state_of_database(), "broker": state_of_broker()}
    if parts["database"] == OK:
        parts |= states_of_machinery()
    failing = [name for name, state in parts.items() if state != OK]
    if "database" in failing:
        body = {"status": "unavailable", "failing": failing, "parts": parts}
        return JsonResponse(body, status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "2"})
    return JsonResponse({"status": "degraded" if failing else OK, "failing": failing, "parts": parts})


def state_of_database() -> str:
    """
    Return ``ok``; ``read-only`` if it refuses writes; ``unreachable`` if it answers no query.

    A primary that waits for a synchronous standby confirms no commit either, and is reported as waiting.

    A read-only server may have been demoted: this process disconnects from it, to find the new primary.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only" if connection.vendor == "postgresql" else "SELECT 1")
            [answer] = cursor.fetchone()
        waits = replication.missing_standby()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The database does not answer: %s", error)
        return "unreachable"
    if answer == "on":
        logger.warning("The database is read-only.")
        leave_all()
        return "read-only"
    if waits:
        logger.warning("The database does not confirm commits: %s.", waits)
        return WAITING
    return OK


def states_of_machinery() -> dict[str, str]:
    """Return ``ok`` or the number of problems for each part; staff see the problems."""
    parts = dict.fromkeys(watchdog.LOOKS, OK)
    for part, count in Counter(problem.part for problem in watchdog.problems()).items():
        parts[part] = f"{count} problem{'s' if count > 1 else ''}"
    if parts["schedules"] != OK and next(late_schedules(), None):
        parts["schedules"] = "late"  # A schedule did not run when it was due: beat is down.
    return parts


def _reach_any(places: list[tuple[str, int]]) -> None:
    """Raise OSError unless one of these can be reached."""
    for place in places:
        try:
            with socket.create_connection(place, timeout=PATIENCE):
                return
        except OSError:
            if place == places[-1]:
                raise


def state_of_broker() -> str:
    """Return ``ok``, or ``unreachable`` if the broker does not answer within half a second."""
    url = settings.CELERY_BROKER_URL
    try:
        if url.startswith("redis"):
            with redis.Redis.from_url(
                url.replace("redis+socket://", "unix://"), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
            ) as client:
                client.ping()
        elif url.startswith("sentinel"):
            times = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
            how = {**times, **broker_urls.sentinel_options(url)}
            known: Any = Sentinel(broker_urls.hosts(url), sentinel_kwargs=times, **how)  # type: ignore[no-untyped-call]
            with known.master_for(settings.REDIS_MASTER) as client:
                client.ping()
        else:
            _reach_any(broker_urls.hosts(url))
    except (redis.RedisError, OSError) as error:
        logger.warning("The broker does not answer: %s", type(error).__name__)
        return "unreachable"
    return OK
