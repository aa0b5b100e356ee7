"""
The problems of a live installation, and what to do about them. Called by ``manage.py doctor``.

Each check yields findings; one that cannot be made, because the database or the broker is unavailable, says so.
"""

import platform
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

import celery
import django
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count
from django.urls import NoReverseMatch, reverse

from celery_ledger import conf, databases
from celery_ledger.databases import connection
from celery_ledger.models import DurableTask
from celery_ledger.project import find_app, import_all
from celery_ledger.relay.broker import Broker, RefusedError, UnsafeBrokerError
from celery_ledger.relay.wakeup import POOLED_INTERVAL
from celery_ledger.trips import is_pooled
from celery_ledger.watch import replication, samples, stuck, watchdog

#: Seconds after which an open transaction counts as keeping the database from cleaning up.
OLD_TRANSACTION: Final = 300
#: A task that has failed this many times has more than a temporary problem.
OFTEN: Final = 3
#: What share of the database's connections may be in use.
FULL: Final = 0.8


@dataclass(frozen=True)
class Finding:
    """The subject of a check and its result; ``advice`` says what to do and is empty if all is well."""

    what: str
    how: str
    advice: str = ""

    @property
    def is_well(self) -> bool:
        return not self.advice


def examine() -> Iterator[Finding]:
    """Yield all findings about this installation."""
    for alias in databases.aliases():
        for examination in EXAMINATIONS if alias == databases.aliases()[0] else OF_A_DATABASE:
            with databases.using(alias):
                found = list(_examine(examination))
            if databases.are_several() and examination in OF_A_DATABASE:
                found = [replace(finding, what=f"{finding.what} ({alias})") for finding in found]
            yield from found


def _examine(examination: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of one examination, of the database in use."""
    try:
        yield from examination()
    except DatabaseError as error:
        reason = " ".join(str(error).split())
        yield Finding(
            examination.__name__, f"the database is unavailable: {reason}", "Start it, or correct DATABASE_URL."
        )


def versions() -> Iterator[Finding]:
    """Report the versions that the project runs on."""
    yield Finding(
        "versions",
        f"Python {platform.python_version()}, Django {django.__version__}, Celery {celery.__version__}, "
        f"{connection.vendor}",
    )


def checked_settings() -> Iterator[Finding]:
    """Report what Django's and the package's own checks say about the settings."""
    messages = checks.run_checks(include_deployment_checks=not settings.DEBUG, databases=list(databases.aliases()))
    for message in messages:
        if message.level >= checks.WARNING and not message.is_silenced():
            yield Finding("settings", f"{message.id}: {message.msg}", message.hint or "See the message.")
    if not messages:
        yield Finding("settings", "the checks find nothing")


def migrations() -> Iterator[Finding]:
    """Check that the database has all migrations of this release."""
    executor = MigrationExecutor(connections[databases.current()])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    advice = "Run `python manage.py migrate`." if plan else ""
    yield Finding("migrations", f"{len(plan)} have not been applied", advice)


def database() -> Iterator[Finding]:
    """Check PostgreSQL's connections and its oldest transaction."""
    if connection.vendor != "postgresql":
        yield Finding("database", "SQLite, for one machine and one user")
        return
    yield Finding(
        "sessions",
        f"connections go through a pooler: a relay behind it polls every {POOLED_INTERVAL:g} s"
        if is_pooled()
        else "connections are direct: a sleeping relay is woken by NOTIFY",
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity")
        used, most = cursor.fetchone()
        yield Finding(
            "connections",
            f"{used} of {most} are taken",
            "Raise max_connections, or run fewer web threads and worker processes." if used > FULL * most else "",
        )
        cursor.execute(
            "SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::int FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        (age,) = cursor.fetchone()
        yield Finding(
            "transactions",
            f"the oldest has been open for {age} s",
            "End it (pg_stat_activity): the ledger slows down while it lasts." if age > OLD_TRANSACTION else "",
        )
        cursor.execute("SHOW autovacuum")
        (mode,) = cursor.fetchone()
        yield Finding("autovacuum", "on" if mode == "on" else "off: old versions of rows stay until somebody vacuums")
        cursor.execute("SHOW synchronous_commit")
        (mode,) = cursor.fetchone()
        yield Finding(
            "synchronous_commit",
            mode,
            "Set it to on: a power failure could lose committed data." if mode == "off" else "",
        )
    if waits := replication.missing_standby():
        yield Finding(
            "replication",
            waits,
            "Start the standby, or take its name out of synchronous_standby_names; until then no commit is "
            "confirmed, and workers and relays seem silent.",
        )


def broker() -> Iterator[Finding]:
    """Check that the broker answers and never evicts messages, and look for unknown queues."""
    with Broker(find_app()) as link:
        try:
            link.check_policy()
            depths = {queue: link.depth(queue) for queue in samples.queue_names()}
        except UnsafeBrokerError as error:
            yield Finding("broker", str(error), "Fix it as described; tasks wait in the ledger meanwhile.")
            return
        except RefusedError as error:
            yield Finding(
                "broker",
                str(error),
                "Its queue was declared with other arguments. Delete it there, and it is declared again.",
            )
            return
        except link.errors as error:
            how = f"it does not answer: {type(error).__name__}"
            yield Finding("broker", how, "Start it, or correct broker_url; tasks wait in the ledger meanwhile.")
            return
    yield Finding("broker", f"it answers; {sum(depths.values())} messages wait")
    crowded = [queue for queue, depth in depths.items() if depth > 2 * conf.QUEUE_WINDOW.value]
    if crowded:
        yield Finding(
            "broker", f"over twice the window waits in {', '.join(crowded)}", "Are all relays of this release?"
        )


def machinery() -> Iterator[Finding]:
    """Report the watchdog's problems."""
    advice = {
        "relay": "Start or restart `python manage.py relay`.",
        "workers": "Restart the worker: SIGTERM, then SIGKILL. Its work is done elsewhere meanwhile.",
        "queues": "Start a worker with this queue in its -Q.",
        "schedules": "Start beat.",
        "clock": "Synchronise this machine's clock with NTP.",
    }
    found = watchdog.problems()
    for problem in found:
        yield Finding(problem.part, problem.text, advice[problem.part])
    if not found:
        yield Finding("machinery", "relays, workers, queues, schedules and clock are well")


def orphans() -> Iterator[Finding]:
    """Find tasks and schedules that no process of this release will run."""
    import_all()
    app = find_app()
    waiting = DurableTask.objects.filter(status=DurableTask.Status.PENDING).order_by()
    lost = waiting.exclude(queue__in=samples.queue_names()).values_list("queue").annotate(Count("id"))
    for queue, count in lost:
        yield Finding(
            "queues",
            f"{count} tasks wait in {queue!r}, which the settings do not know",
            "Add it to task_queues again, or move them: UPDATE celery_ledger_durabletask SET queue = ...",
        )
    unknown = waiting.exclude(name__in=app.tasks).values_list("name").annotate(Count("id"))
    for name, count in unknown:
        yield Finding(
            "tasks",
            f"{count} tasks named {name!r}, which this release does not have",
            "Finish the deploy, or roll back.",
        )
    for name in _schedules_without_task(app.tasks):
        yield Finding("schedules", f"{name!r} names a task that does not exist", "Correct or delete it in the admin.")
    if not lost and not unknown:
        yield Finding("orphans", "every waiting task has a queue and a body")


def ledger() -> Iterator[Finding]:
    """Find tasks that are stuck, fail repeatedly, or are dead."""
    overdue = sum(1 for _ in stuck.stuck_tasks())
    yield Finding("stuck tasks", str(overdue), "Is a relay running? `outbox verify` lists them." if overdue else "")
    again = samples.retrying_by_task()
    worst = max(again, key=lambda row: row[2], default=None)
    often = DurableTask.objects.filter(status=DurableTask.Status.PENDING, attempts__gte=OFTEN)
    last = often.order_by("-attempts").values_list("last_error", flat=True).first()
    yield Finding(
        "retrying tasks",
        f"{sum(rows for *_, rows in again)}" + (f", most of {worst[1]}: {last or 'a first failure'}" if worst else ""),
        f"Some have failed {OFTEN} times. Fix the cause named by the error; `outbox pause` saves attempts until then."
        if last is not None
        else "",
    )
    dead = DurableTask.objects.filter(status=DurableTask.Status.DEAD).count()
    advice = f"Look at {_place_of_dead_letters()}: fix the cause, then replay or discard." if dead else ""
    yield Finding("dead letters", str(dead), advice)


def _schedules_without_task(known: Collection[str]) -> list[str]:
    if not apps.is_installed("django_celery_beat"):
        return []
    from django_celery_beat.models import PeriodicTask

    return list(PeriodicTask.objects.enabled().exclude(task__in=known).values_list("name", flat=True))


def _place_of_dead_letters() -> str:
    try:
        return reverse("admin:celery_ledger_durabletask_dead")
    except NoReverseMatch:
        return "`outbox dead`"


EXAMINATIONS: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    versions,
    checked_settings,
    migrations,
    database,
    broker,
    machinery,
    orphans,
    ledger,
)
#: Those that are made for each of several databases.
OF_A_DATABASE: Final = (migrations, database, machinery, ledger)
