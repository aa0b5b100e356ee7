"""
Counts of failed logins, by user, client address and hour.

The audit trail only grows, so anonymous clients must not be able to fill it: it records the first failure of an
hour, the tenth, the hundredth, and so on. The counts themselves are kept for two days.
"""

from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from accounts.models import LoginFailures, User
from audit_trail import audit
from audit_trail.models import AuditEntry
from celery_ledger.context import current_client

#: How long the counts are kept.
KEPT: Final = timedelta(days=2)
#: How many old rows are deleted with each new one.
SWEEP: Final = 100


def record(user: User | None) -> None:
    """Count a failed login for this user or an unknown one, and audit the first, tenth, hundredth, ..."""
    now = timezone.now()
    about: dict[str, Any] = {
        "user_id": user.pk if user else 0,
        "client": current_client(),
        "hour": now.replace(minute=0, second=0, microsecond=0),
    }
    with transaction.atomic():
        row, is_new = LoginFailures.objects.get_or_create(**about)
        row = LoginFailures.objects.select_for_update().get(pk=row.pk)
        row.times += 1
        row.save(update_fields=["times"])
        if is_power_of_ten(row.times):
            audit.write(AuditEntry.What.LOGIN_FAILED, user or User(), after={"times": row.times})
        if is_new:
            bygone = LoginFailures.objects.filter(hour__lt=now - KEPT).order_by("pk")
            ids = list(bygone.select_for_update(skip_locked=True).values_list("pk", flat=True)[:SWEEP])
            LoginFailures.objects.filter(pk__in=ids).delete()


def is_power_of_ten(number: int) -> bool:
    """Whether a number is 1, 10, 100 and so on."""
    return str(number).rstrip("0") == "1"
