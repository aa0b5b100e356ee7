"""Fixtures for all tests."""

import logging
import math
import re
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import pytest

from tests import processes
from tests.tcp_proxy import tcp_proxy
from worker.celery import app

# Threads that tests start would otherwise meet the app of the pytest-celery plugin, which comes first.
app.set_default()
# How long an example takes says more of what else this machine does.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")
# A line for each of a thousand requests would bury what a failed test has to say.
logging.getLogger("httpx").setLevel(logging.WARNING)


class _Everything(set):
    def issuperset(self, _):
        return True


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch):
    """Forget what other tests taught this process about tasks; write measurements only on demand."""
    from celery_ledger.rows import paces
    from celery_ledger.work import slices

    paces._noted.clear()
    monkeypatch.setattr(paces, "_next_flush", math.inf)
    monkeypatch.setattr(paces, "_flushed", _Everything())
    monkeypatch.setattr(slices, "company", paces.Company())


def pytest_collection_modifyitems(config, items):
    from django.conf import settings

    if settings.CELERY_BROKER_URL.startswith("amqp") and hasattr(config, "workerinput"):
        # A Valkey each test starts for itself, but this broker is one for the whole run.
        raise pytest.UsageError("On RabbitMQ tests would take one another's messages: run them one by one, with -n 0.")
    for item in items:
        for mark in item.iter_markers("fault"):
            item.extra_keyword_matches.update(mark.args)  # So that -k F23 finds it, wherever it stands.
    on_postgresql = settings.DATABASES["default"]["ENGINE"].endswith("postgresql")
    leave_out_what_nobody_asked_for(config, items, on_postgresql=on_postgresql)
    if not on_postgresql:
        for item in items:
            if item.get_closest_marker("postgresql"):
                item.add_marker(pytest.mark.skip(reason="needs PostgreSQL: set DATABASE_URL"))
    if hasattr(config, "workerinput"):
        spread(items)


def spread(items):
    """Distribute tests that wait for processes among those that compute, with none at the very end."""
    rank = {}
    for waits, share in ((True, 0.9), (False, 1)):
        group = [item for item in items if waits == ("machine" in item.fixturenames or "e2e" in item.path.parts)]
        rank.update({item: share * index / len(group) for index, item in enumerate(group)})
    items.sort(key=rank.__getitem__)


def leave_out_what_nobody_asked_for(config, items, *, on_postgresql):
    if "drill" not in config.option.markexpr:
        leave_out(config, items, "drill")
    if asks_for_faults(config):
        return
    leave_out(config, items, "slow_fault")
    whole_suite = all(Path(path).name == "tests" for path in config.args)
    if whole_suite and not on_postgresql:
        leave_out(config, items, "once")


def leave_out(config, items, marker):
    left_out = [item for item in items if item.get_closest_marker(marker)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Let what a test with half a surrogate pair said travel from its process to the one that reports."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def asks_for_faults(config):
    """Whether faults are asked for by marker or by name, also those that take minutes."""
    return (
        re.search("fault|chaos", config.option.markexpr) is not None
        or re.search(r"\bF\d{2,3}\b", config.option.keyword) is not None
    )


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """
    Keep content types and permissions when a transactional test empties the database: to write the same ones
    again takes longer than most tests. In the end, part with whoever is still connected, for PostgreSQL drops
    no database that is in use.
    """
    from django.core.management.commands import flush
    from django.db import connection

    def statements(style, connection, **options):
        tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False))
        emptied = sorted(tables - {"django_content_type", "auth_permission"})
        if connection.vendor == "postgresql" and not options["reset_sequences"] and are_small(connection, emptied):
            return rows_deleted(connection, emptied)
        return connection.ops.sql_flush(style, emptied, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "sql_flush", statements)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *arguments: None)
        yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def are_small(connection, tables):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('is_superuser') = 'on' AND max(pg_relation_size(name::regclass)) < 1000000"
            " FROM unnest(%s::text[]) AS name",
            [tables],
        )
        return cursor.fetchone()[0]


def rows_deleted(connection, tables):
    """
    Empty small tables without TRUNCATE, which creates new files for each and takes a quarter of a second.

    It waits for writers, as TRUNCATE does. No triggers run, neither for foreign keys nor for the audit trail.
    """
    names = [connection.ops.quote_name(table) for table in tables]
    return [
        f"LOCK TABLE {', '.join(names)} IN EXCLUSIVE MODE",
        "SET LOCAL session_replication_role = replica",
        *(f"DELETE FROM {name}" for name in names),
    ]


@pytest.fixture(autouse=True)
def fresh_probe():
    """Hide the effects of other tests' tasks."""
    from tests import probe

    yield
    probe.failing.clear()
    probe.seen.clear()


@pytest.fixture(autouse=True)
def nobody_subscribes():
    """Let no test count the query that a process sends every few seconds; one that saves an endpoint has it sent."""
    from webhooks import recording

    recording._known = (math.inf, frozenset())


@pytest.fixture
def machine(transactional_db, tmp_path):
    """A database, a broker, and room for real processes of the project."""
    with processes.Machine(tmp_path) as machine:
        yield machine


@pytest.fixture
def database_proxy(machine):
    """A proxy before the database, for the processes that are started with its ``url``."""
    url = urlsplit(machine.environment["DATABASE_URL"])
    with tcp_proxy(url.hostname, url.port) as proxy:
        proxy.url = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}")).geturl()
        yield proxy
