"""
Checks for ``manage.py check`` and the start of workers and relays: settings that would break a promise.

Celery's defaults are fine. An error would lose tasks or never run them; a warning works, but not as you might expect.
Each has an id and a hint.
"""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Advice
from django.db import connections
from kombu.transport import resolve_transport

from celery_ledger import conf, faults
from celery_ledger.databases import aliases, are_several
from celery_ledger.models import DurableTask
from celery_ledger.project import AppNotFoundError, find_app, import_tasks
from celery_ledger.rows import rates

OLDEST_SQLITE = (3, 38, 0)
LOOPBACK = {"localhost", "127.0.0.1", "::1", None}
#: What kombu calls the supported brokers' transports. Sentinel is one of Redis's.
SERVED: Final = {"redis", "amqp"}
#: Redis redelivers a message after this many seconds unless the project sets another value: kombu's default.
VISIBILITY_TIMEOUT: Final = 3600
#: The most tasks that one message may name.
MOST_NAMED: Final = 5

Check = Callable[[Any], Iterator[CheckMessage]]


def _kind(app: Any) -> str | None:
    """Return kombu's name for the type of the app's broker; None: kombu has no transport for it here."""
    try:
        kind: str = resolve_transport(app.connection_for_write().transport_cls).driver_type
    except (ImportError, KeyError):
        return None
    return kind


def of_app(check: Check) -> Callable[..., list[CheckMessage]]:
    """Apply a check to the project's Celery app; if there is none, :func:`check_app` reports that."""

    def asked(app_configs: Any, **_: Any) -> list[CheckMessage]:
        try:
            app = find_app()
        except AppNotFoundError:
            return []
        return list(check(app))

    asked.__name__, asked.__doc__ = check.__name__, check.__doc__
    return asked


@register(Tags.compatibility)
def check_app(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Warn if there is no Celery app, or if its tasks are not durable."""
    try:
        app = find_app()
    except AppNotFoundError as error:
        return [Advice("There is no Celery app.", hint=str(error), id="celery_ledger.W001")]
    if getattr(app.Task, "durable", None) is None:
        return [
            Advice(
                f"The tasks of the Celery app {app.main!r} are not durable.",
                hint=f'Make it Celery({app.main!r}, task_cls="celery_ledger:Task"), or derive the class that its '
                "task_cls names from celery_ledger.Task.",
                id="celery_ledger.W002",
            )
        ]
    return []


@register(Tags.compatibility)
def check_settings(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse invalid values of the package's own settings."""
    return [
        Error(problem, hint=f"Leave it out for {setting.default}: {setting.meaning}.", id="celery_ledger.E014")
        for setting in conf.SETTINGS
        if (problem := setting.problem())
    ]


@register(Tags.compatibility)
@of_app
def check_content(app: Any) -> Iterator[CheckMessage]:
    """Refuse a worker that would reject every message of the relay."""
    if not {"json", "application/json"} & set(app.conf.accept_content):
        yield Error(
            f"Celery's accept_content is {list(app.conf.accept_content)}, without json.",
            hint="The relay's messages are JSON, and workers would refuse them all. Add 'json'.",
            id="celery_ledger.E003",
        )


@register(Tags.compatibility)
@of_app
def check_serializer(app: Any) -> Iterator[CheckMessage]:
    """Explain the effect of a serializer that accepts more than JSON does."""
    if "pickle" in str(app.conf.task_serializer):
        yield Advice(
            f"Celery's task_serializer is {app.conf.task_serializer!r}.",
            hint="The arguments of durable tasks are stored as JSON, with dates, Decimals, UUIDs and bytes. Values "
            "that JSON cannot restore are stored as this serializer writes them, if accept_content has it: they cannot "
            "be read or edited, a deploy that changes a class can make them unreadable, and unless they are signed, "
            "anyone who can write to the database can run any code in the workers. Otherwise the call is refused with "
            "a TypeError. Pass ids, and set task_serializer to 'json'.",
            id="celery_ledger.W027",
        )


@register(Tags.security, deploy=True)
@of_app
def check_pickles(app: Any) -> Iterator[CheckMessage]:
    """Warn about workers that accept pickles."""
    if {"pickle", "application/x-python-serialize"} & set(app.conf.accept_content):
        yield Advice(
            "Celery's accept_content has pickle.",
            hint="Anyone who can write to the broker can run any code in the workers, with a pickle for a task with "
            "durable=False, and so can anyone who can write to the database. Messages of durable tasks are JSON, and "
            "a pickle in their place is dropped unopened. Remove it, unless your calls need it.",
            id="celery_ledger.W028",
        )


@register(Tags.compatibility)
@of_app
def check_broker(app: Any) -> Iterator[CheckMessage]:
    """Refuse an unsupported broker."""
    if app.conf.task_always_eager:
        return
    if _kind(app) not in SERVED:
        yield Error(
            f"Celery's broker, {urlsplit(app.conf.broker_write_url or '').scheme}://, is not served.",
            hint="celery_ledger speaks to Redis or Valkey (redis://, rediss://, sentinel://) and to RabbitMQ (amqp://, "
            "amqps://). Without a broker, as in tests, set task_always_eager.",
            id="celery_ledger.E016",
        )


@register(Tags.compatibility)
@of_app
def check_times(app: Any) -> Iterator[CheckMessage]:
    """Refuse a Redis that would redeliver a message while its task may still be running."""
    if _kind(app) != "redis":
        return
    visibility = app.conf.broker_transport_options.get("visibility_timeout", VISIBILITY_TIMEOUT)
    limit = app.conf.task_time_limit
    if limit and limit >= visibility:
        yield Error(
            f"Redis's visibility_timeout ({visibility} s) is not longer than task_time_limit ({limit} s).",
            hint="Redis would hand out a message again while its task runs. Lower the limit, or raise "
            "visibility_timeout in broker_transport_options.",
            id="celery_ledger.E010",
        )


@register(Tags.compatibility)
@of_app
def check_worker(app: Any) -> Iterator[CheckMessage]:
    """Refuse pools that do not detect crashes; warn about workers that prefetch too much."""
    pool = str(app.conf.worker_pool)
    if "gevent" in pool or "eventlet" in pool:
        yield Error(
            f"Celery's worker_pool is {pool}.",
            hint="Its green threads would share one connection to the database, and one transaction. Use prefork, "
            "which is the default.",
            id="celery_ledger.E015",
        )
    if getattr(app.Task, "durable", False) and app.conf.worker_prefetch_multiplier != 1:
        yield Advice(
            f"Celery's worker_prefetch_multiplier is {app.conf.worker_prefetch_multiplier}.",
            hint="Messages that a worker holds back behind a long task are considered lost and published again. "
            "Remove the setting, or set it to 1.",
            id="celery_ledger.W019",
        )


@register(Tags.compatibility)
def check_clock(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Require aware times: the ledger compares its own with the database's, wherever a process runs."""
    if settings.USE_TZ:
        return []
    return [
        Error(
            "USE_TZ is off.",
            hint="The ledger stores aware datetimes, which would be read as local times. Set USE_TZ = True.",
            id="celery_ledger.E013",
        )
    ]


@register(Tags.compatibility)
@of_app
def check_tasks(app: Any) -> Iterator[CheckMessage]:
    """Report tasks that are not durable although no option says so, and their options that have no effect."""
    try:
        import_tasks()
    except Exception as error:  # noqa: BLE001 - the project's module may raise anything, and is named here
        yield Advice(
            f"The project's tasks cannot be imported: {type(error).__name__}: {error}",
            hint="The relay and the workers could not import them either, and would not start.",
            id="celery_ledger.W022",
        )
        return
    own = {name: task for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")}
    foreign = [name for name, task in own.items() if getattr(task, "durable", None) is None]
    if foreign and getattr(app.Task, "durable", None) is not None:
        more = f" and {len(foreign) - MOST_NAMED} more" if len(foreign) > MOST_NAMED else ""
        yield Advice(
            f"Not durable, for their classes do not derive from celery_ledger.Task: "
            f"{', '.join(foreign[:MOST_NAMED])}{more}.",
            hint="Pass base=celery_ledger.Task, or a class derived from it, in the decorator; or durable=False, to "
            "keep Celery's behaviour.",
            id="celery_ledger.W017",
        )
    for name, task in own.items():
        if getattr(task, "durable", False) and (problem := _problem_of_rate(task.rate_limit)):
            yield Error(
                f"The rate_limit of {name} is not a rate: {problem}",
                hint="Relays would publish it without a limit, and a worker of Celery's own would not start.",
                id="celery_ledger.E017",
            )


def _problem_of_rate(said: Any) -> str | None:
    try:
        rates.per_second(said)
    except ValueError as error:
        return str(error)
    return None


@register(Tags.compatibility)
def check_aliases(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse aliases that the project does not have."""
    if conf.DATABASES.problem():
        return []
    return [
        Error(
            f"LEDGER_DATABASES names {alias!r}, which is not one of DATABASES.",
            hint=f"There are {', '.join(connections)}.",
            id="celery_ledger.E018",
        )
        for alias in aliases()
        if alias not in connections
    ]


@register(Tags.database)
def check_tables(app_configs: Any, databases: Any = None, **_: Any) -> list[CheckMessage]:
    """
    Warn about databases of several that do not have the ledger's tables: calls there would fail.

    Only for the databases that a caller names, as Django's own checks of databases: one that is unavailable must not
    stop the commands that do without it.
    """
    return [
        Advice(
            f"The database {alias!r} of LEDGER_DATABASES does not have the ledger's tables.",
            hint=f"Run `python manage.py migrate --database {alias}`. If it has been, a router keeps the app "
            "celery_ledger out: its allow_migrate must not return False.",
            id="celery_ledger.W021",
        )
        for alias in (_asked(databases) if databases else ())
        if are_several() and DurableTask._meta.db_table not in connections[alias].introspection.table_names()
    ]


def _named(alias: str) -> str:
    return f" in the database {alias}" if are_several() else ""


def _asked(said: Any) -> list[str]:
    return [alias for alias in aliases() if alias in connections and (said is None or alias in said)]


@register(Tags.database)
def check_database(app_configs: Any, databases: Any = None, **_: Any) -> list[CheckMessage]:
    """Refuse a database without features that the ledger needs; warn about writers that would not queue."""
    asked = _asked(databases) if are_several() else _asked(None)
    return [message for alias in asked for message in _problems_of(connections[alias])]


def _problems_of(connection: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if connection.vendor not in {"postgresql", "sqlite"}:
        return [
            Error(
                f"The ledger has no statements for {connection.display_name}.",
                hint="It works on PostgreSQL, and on SQLite from 3.38 on.",
                id="celery_ledger.E004",
            )
        ]
    if connection.vendor != "sqlite":
        return found
    if connection.settings_dict["OPTIONS"].get("transaction_mode") != "IMMEDIATE":
        found.append(
            Advice(
                f"SQLite's transaction_mode is not IMMEDIATE{_named(connection.alias)}.",
                hint="Relay and workers write while your own processes do, so transactions that read and then write "
                "may fail with 'database is locked'. Set OPTIONS = {'transaction_mode': 'IMMEDIATE', 'timeout': 20}.",
                id="celery_ledger.W012",
            )
        )
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        found.append(
            Error(
                f"SQLite {sqlite3.sqlite_version} is too old for the ledger.",
                hint="It needs 3.38 or newer. Use a newer Python build, or PostgreSQL.",
                id="celery_ledger.E005",
            )
        )
    return found


@register(Tags.security)
def check_faults(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Refuse armed faults in production."""
    if settings.DEBUG or not faults.armed():
        return []
    return [Error("FAULT is set while DEBUG is off.", hint="It kills processes; unset it.", id="celery_ledger.E006")]


@register(Tags.security, deploy=True)
@of_app
def check_reach(app: Any) -> Iterator[CheckMessage]:
    """Warn about a broker that anyone with network access can write to."""
    if _kind(app) is None:
        return
    url = urlsplit(app.connection_for_write().as_uri(include_password=True))
    if url.hostname not in LOOPBACK and not url.password:
        yield Advice(
            "The broker is on another machine and has no password.",
            hint="Anyone who can write to it can run any registered task. Set a user and a password.",
            id="celery_ledger.W007",
        )
