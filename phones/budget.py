"""
The SMS budget: by number, by client address, and in total.

Every SMS costs, and some attackers earn a share of the cost, so the number must be limited. Grants are
rows, counted and written under one database lock: no budget is exceeded, regardless of the number of concurrent
requests and processes.
"""

import logging
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from phones.models import SmsGrant

logger = logging.getLogger(__name__)

#: PostgreSQL's advisory lock for granting an SMS, until the end of its transaction.
GRANT_LOCK: Final = 0x5350_534D_53
#: SMS to one number in a day, of all kinds.
A_NUMBER_A_DAY: Final = 20
DAY: Final = timedelta(days=1)
#: The maximum number of expired rows deleted with each row written.
SWEEP: Final = 100


class NoBudget(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The SMS budget is used up; ``wait`` is the number of seconds until the next."""

    def __init__(self, wait: float) -> None:
        super().__init__("The SMS budget is used up.")
        self.wait = wait


def hold() -> None:
    """Lock the budget until this transaction ends. SQLite's writers queue anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [GRANT_LOCK])


def spend(phone: str, *, reference: str, client: str = "") -> None:
    """
    Grant one SMS to a number in E.164. A repeated reference was granted before and costs nothing.

    ``client`` is the address that requested it, if known.

    Raises:
        NoBudget: the budget of the number, the address or the shop is used up for now.
    """
    with transaction.atomic():
        hold()
        if SmsGrant.objects.filter(reference=reference).exists():
            return
        now = timezone.now()
        of_today = SmsGrant.objects.filter(created_at__gt=now - DAY)
        budgets = [("a number", Q(phone=phone), A_NUMBER_A_DAY), ("the shop", Q(), settings.SMS_PER_DAY)]
        if client:
            budgets.insert(1, ("an address", Q(client=client), settings.SMS_PER_ADDRESS))
        for whose, which, limit in budgets:
            times = list(of_today.filter(which).order_by("-created_at").values_list("created_at", flat=True)[:limit])
            if len(times) == limit:
                logger.warning("The SMS budget of %s is used up: %d a day.", whose, limit)
                raise NoBudget((times[-1] + DAY - now).total_seconds())
        bygone = SmsGrant.objects.filter(created_at__lt=now - 2 * DAY).order_by("created_at")
        SmsGrant.objects.filter(pk__in=list(bygone.values_list("pk", flat=True)[:SWEEP])).delete()
        SmsGrant.objects.create(phone=phone, reference=reference, client=client)
