"""What ``manage.py check``, a worker's start and a relay's start refuse: settings that break the promises."""

import os
import sqlite3
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connection

OLDEST_SQLITE = (3, 38, 0)
LOOPBACK = {"localhost", "127.0.0.1", "::1", None}


@register(Tags.compatibility)
def check_celery(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Name each Celery setting under which a task could be lost or run with unsafe content."""
    found: list[CheckMessage] = []
    if not settings.CELERY_TASK_ACKS_LATE:
        found.append(
            Error("CELERY_TASK_ACKS_LATE is off.", hint="A worker that dies would lose its messages.", id="worker.E001")
        )
    if settings.CELERY_TASK_REJECT_ON_WORKER_LOST:
        found.append(
            Error(
                "CELERY_TASK_REJECT_ON_WORKER_LOST is on.",
                hint="A task that kills its worker would come back for ever; the ledger brings it back, counted.",
                id="worker.E002",
            )
        )
    if settings.CELERY_ACCEPT_CONTENT != ["json"] or settings.CELERY_TASK_SERIALIZER != "json":
        found.append(
            Error("Celery accepts more than JSON.", hint="Pickled messages run any code they carry.", id="worker.E003")
        )
    if settings.CELERY_RESULT_BACKEND != "django-db" or not settings.CELERY_TASK_IGNORE_RESULT:
        found.append(
            Error(
                "Celery would write results itself.",
                hint="Keep CELERY_RESULT_BACKEND = 'django-db' and CELERY_TASK_IGNORE_RESULT = True: "
                "the consumer writes them with the effects.",
                id="worker.E004",
            )
        )
    return found


@register(Tags.compatibility)
def check_times(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse times that contradict one another: a task taken for lost while it may still be running."""
    limit = settings.CELERY_TASK_TIME_LIMIT
    if not limit:
        return [
            Error(
                "CELERY_TASK_TIME_LIMIT is not set.",
                hint="A task that hangs would hold its worker for ever. Set TASK_TIME_LIMIT, in seconds.",
                id="worker.E008",
            )
        ]
    found: list[CheckMessage] = []
    if limit > settings.LEDGER_PUBLISHED_LEASE:
        found.append(
            Error(
                f"LEDGER_PUBLISHED_LEASE ({settings.LEDGER_PUBLISHED_LEASE} s) is shorter than "
                f"TASK_TIME_LIMIT ({limit} s).",
                hint="A task may run longer than its message is believed in. Raise the lease or lower the limit.",
                id="worker.E009",
            )
        )
    visibility = settings.CELERY_BROKER_TRANSPORT_OPTIONS.get("visibility_timeout")
    if visibility is not None and visibility <= limit:
        found.append(
            Error(
                f"Redis's visibility_timeout ({visibility} s) is not longer than TASK_TIME_LIMIT ({limit} s).",
                hint="Redis would hand out a message again while its task runs. Lower TASK_TIME_LIMIT.",
                id="worker.E010",
            )
        )
    return found


@register(Tags.compatibility)
def check_confirms(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse a RabbitMQ that is not asked to confirm what it was given."""
    url, options = settings.CELERY_BROKER_URL, settings.CELERY_BROKER_TRANSPORT_OPTIONS
    if url.startswith("amqp") and not options.get("confirm_publish"):
        return [
            Error(
                "CELERY_BROKER_TRANSPORT_OPTIONS lacks confirm_publish.",
                hint="What a dying RabbitMQ was given would be missed only when its lease ends.",
                id="worker.E011",
            )
        ]
    return []


@register(Tags.database)
def check_sqlite(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse an SQLite that lacks what the ledger's statements need, or whose writers would not wait in line."""
    found: list[CheckMessage] = []
    if connection.vendor != "sqlite":
        return found
    if connection.settings_dict["OPTIONS"].get("transaction_mode") != "IMMEDIATE":
        found.append(
            Error(
                "SQLite's transaction_mode is not IMMEDIATE.",
                hint="A transaction that reads and then writes would fail with 'database is locked'.",
                id="worker.E012",
            )
        )
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        found.append(
            Error(
                f"SQLite {sqlite3.sqlite_version} is too old for the ledger.",
                hint="It needs 3.38 or newer. Use a newer Python build, or PostgreSQL by DATABASE_URL.",
                id="worker.E005",
            )
        )
    return found


@register(Tags.security)
def check_safety(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse armed faults in production, and a broker that anybody in reach can write to."""
    if settings.DEBUG:
        return []
    found: list[CheckMessage] = []
    if os.environ.get("FAULT"):
        found.append(Error("FAULT is set while DEBUG is off.", hint="It kills processes; unset it.", id="worker.E006"))
    for name in ("CELERY_BROKER_URL", "REDIS_URL"):
        url = urlsplit(getattr(settings, name))
        if url.hostname not in LOOPBACK and not url.password:
            found.append(
                Error(
                    f"{name} names a broker on another machine without a password.",
                    hint="Whoever can write to it can run any registered task. Set a user and a password.",
                    id="worker.E007",
                )
            )
    return found
