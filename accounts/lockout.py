"""
Reports of failed logins to django-axes, and the response to a user who is locked out.

Axes counts failures in the database, for all processes, by name and address (of IPv6, the first half) together: anyone
who fails too often under a name is locked out under that name, from that address, until the cool-off has passed. Each
failure after that locks out again, for twice as long, until a login succeeds or a day has passed. An attacker elsewhere
cannot lock a user out, and attempts during a lock do not extend it.
"""

import json
import math
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Max, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from web.clients import network_of
from web.problems import API_PREFIX, CONTENT_TYPE, problem

#: Longer than any name; anything typed beyond that is not kept.
MAX_NAME: Final = 150
#: The longest lock; nothing is remembered for longer.
LONGEST: Final = timedelta(days=1)


class LockoutHandler(AxesDatabaseHandler):
    """Axes's own handler, except that a lock that has grown does not end with another lock."""

    def clean_expired_user_attempts(self, request: Any = None, credentials: Any = None) -> int:
        return forget_old_failures()


def name_of(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str:
    """Return the name under which a failure is counted, ignoring case."""
    typed = (credentials or {}).get("username") or request.POST.get("username") or getattr(request, "login_name", "")
    return str(typed).casefold()[:MAX_NAME]


def address_of(request: HttpRequest) -> str | None:
    """Return the client's address as the throttles see it; None if it is not an address."""
    network = network_of(request)
    return None if network is None else str(network.network_address)


def cool_off(request: HttpRequest) -> timedelta:
    """Return how long failures under this name and address count; lock out if there are too many."""
    failures = _failures(request).aggregate(number=Sum("failures_since_start"))["number"] or 0
    doublings = max(0, failures - settings.AXES_FAILURE_LIMIT)
    longest: timedelta = settings.LOGIN_COOLOFF * 2 ** min(doublings, 20)
    return min(longest, LONGEST)


def refuse(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any] | None) -> HttpResponse:
    """Replace ``response`` for a user who is locked out: 429, with the time to come back."""
    last = _failures(request).aggregate(at=Max("attempt_time"))["at"]
    left: timedelta = (last or timezone.now()) + cool_off(request) - timezone.now()
    wait = max(1, math.ceil(left.total_seconds()))
    detail = f"Too many failed logins for this username. Try again in {wait} seconds."
    headers = {"Retry-After": str(wait)}
    if request.path_info.startswith(API_PREFIX):
        document = problem(HTTPStatus.TOO_MANY_REQUESTS, detail)
        return HttpResponse(json.dumps(document), status=429, content_type=CONTENT_TYPE, headers=headers)
    return HttpResponse(detail, status=429, content_type="text/plain; charset=utf-8", headers=headers)


def forget_old_failures() -> int:
    """Delete the failed logins that no longer count, and return how many."""
    now = timezone.now()
    few = Q(failures_since_start__lt=settings.AXES_FAILURE_LIMIT, attempt_time__lt=now - settings.LOGIN_COOLOFF)
    old = AccessAttempt.objects.filter(few | Q(attempt_time__lt=now - LONGEST))
    return int(old.delete()[0])


def _failures(request: HttpRequest) -> QuerySet[AccessAttempt]:
    name, address = get_client_username(request), address_of(request)
    failures: QuerySet[AccessAttempt] = AccessAttempt.objects.filter(username=name, ip_address=address)
    return failures
