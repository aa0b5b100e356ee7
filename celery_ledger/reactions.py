"""
The time since which each receiver of a durable signal exists, recorded by ``manage.py migrate``.

A reaction that is added later need not cover earlier events: ``outbox verify`` asks
:mod:`celery_ledger.promises`, which reads these records.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.utils import timezone

from celery_ledger.models import Reaction
from celery_ledger.signals import durable_signals

#: During a deploy, processes of the previous release go on without the new receivers.
DEPLOY = timedelta(minutes=15)
#: The migration that created the table.
FIRST = "0001_initial"


def note_new(plan: Any = (), using: str = "default", **kwargs: Any) -> None:
    """
    Record receivers that did not exist at the last migration.

    When the ledger's tables are created, all receivers count as present from the beginning. If the tables do not exist
    yet because only another app was migrated, nothing is recorded.
    """
    if Reaction._meta.db_table not in connections[using].introspection.table_names():
        return
    applied = {
        migration.name for migration, backwards in plan if migration.app_label == "celery_ledger" and not backwards
    }
    reactions = Reaction.objects.using(using)
    known = set(reactions.values_list("receiver", flat=True))
    since: datetime | None = timezone.now() + DEPLOY
    if not known and FIRST in applied:
        since = None
    reactions.bulk_create(
        (
            Reaction(receiver=uid, since=since)
            for signal in durable_signals()
            for (uid, _), *_ in signal.receivers
            if uid not in known
        ),
        ignore_conflicts=True,
    )
