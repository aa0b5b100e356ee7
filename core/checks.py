"""
Checks at the start of every process: receivers that could be lost or react twice, and unsafe settings.

Also checks Celery settings that the shop requires, beyond those that the ledger checks.
"""

from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Advice

from celery_ledger import conf
from celery_ledger.checks import LOOPBACK
from core import database_limits, wiring
from web.broker_urls import parts

#: For each defect of receivers: the function that finds it, a description, and a hint.
FLAWS: Final = (
    (
        "core.E001",
        wiring.unnamed,
        "is connected without a dispatch_uid",
        "If its module were imported twice, it would run twice. Connect it in ready() with a dispatch_uid.",
    ),
    (
        "core.E002",
        wiring.repeated,
        "is connected twice",
        "It runs twice for every signal. Connect it once, with one dispatch_uid.",
    ),
    (
        "core.E003",
        wiring.nested,
        "is not a module-level function",
        "Signals keep weak references: it can vanish. Define it at the top level of receivers.py.",
    ),
)


@register(Tags.signals)
def check_receivers(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Report each of our receivers that has no ``dispatch_uid``, is connected twice, or can vanish."""
    return [Error(f"A receiver {flaw}: {line}.", hint=hint, id=id) for id, find, flaw, hint in FLAWS for line in find()]


@register(Tags.compatibility)
def check_celery(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Report each Celery setting that could lose a task or run it with unsafe content."""
    found: list[CheckMessage] = []
    if not settings.CELERY_TASK_ACKS_LATE:
        found.append(
            Error("CELERY_TASK_ACKS_LATE is off.", hint="A worker that dies would lose its messages.", id="core.E004")
        )
    if settings.CELERY_TASK_REJECT_ON_WORKER_LOST:
        found.append(
            Error(
                "CELERY_TASK_REJECT_ON_WORKER_LOST is on.",
                hint="A task that kills its worker would come back forever; the ledger counts its attempts.",
                id="core.E005",
            )
        )
    if settings.CELERY_ACCEPT_CONTENT != ["json"] or settings.CELERY_TASK_SERIALIZER != "json":
        found.append(
            Error("Celery accepts more than JSON.", hint="Pickled messages run any code they carry.", id="core.E006")
        )
    if settings.CELERY_RESULT_BACKEND != "django-db" or not settings.CELERY_TASK_IGNORE_RESULT:
        found.append(
            Error(
                "Celery would write results itself.",
                hint="Keep CELERY_RESULT_BACKEND = 'django-db' and CELERY_TASK_IGNORE_RESULT = True: "
                "the consumer writes them with the effects.",
                id="core.E007",
            )
        )
    limit = settings.CELERY_TASK_TIME_LIMIT
    if not limit:
        found.append(
            Error(
                "CELERY_TASK_TIME_LIMIT is not set.",
                hint="A task that hangs would hold its worker forever. Set TASK_TIME_LIMIT, in seconds.",
                id="core.E008",
            )
        )
    elif not conf.PUBLISHED_LEASE.problem() and limit > settings.LEDGER_PUBLISHED_LEASE:
        found.append(
            Error(
                f"LEDGER_PUBLISHED_LEASE ({settings.LEDGER_PUBLISHED_LEASE} s) is shorter than "
                f"TASK_TIME_LIMIT ({limit} s).",
                hint="A task can run longer than its lease. Raise the lease or lower the limit.",
                id="core.E009",
            )
        )
    return found


@register(Tags.database)
def check_limits(app_configs: Any, databases: Any = None, **_: Any) -> list[CheckMessage]:
    """Warn about limits of this process that PostgreSQL does not enforce."""
    if not databases or not (lacking := database_limits.lacking()):
        return []
    return [
        Advice(
            f"PostgreSQL does not keep {', '.join(lacking)} for the sessions of this process.",
            hint="A pooler in between may drop the startup parameter `options`. Set DATABASE_POOLED=1 and store the "
            "limits with the role: `manage.py database_limits --set`.",
            id="core.W011",
        )
    ]


@register(Tags.security)
def check_reach(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse, in production, a broker that anyone with network access can write to."""
    if settings.DEBUG:
        return []
    return [
        Error(
            f"{name} names a broker on another machine without a password.",
            hint="Anyone who can write to it can run any registered task. Set a user and a password.",
            id="core.E010",
        )
        for name in ("CELERY_BROKER_URL", "REDIS_URL")
        if any(url.hostname not in LOOPBACK for url in parts(getattr(settings, name)))
        and not parts(getattr(settings, name))[0].password
    ]
