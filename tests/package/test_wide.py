"""A ledger in several databases: two SQLite files, or two databases of the PostgreSQL that the run is given."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.own_postgresql import OwnPostgreSQL, find_binaries
from tests.package.conftest import DATABASE_URL, Redis
from tests.package.shards import Shards
from tests.processes import Process, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]
ALIASES = ("default", "east")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    redis = Redis(tmp_path_factory.mktemp("broker"))
    yield redis
    redis.end()


@pytest.fixture(scope="module")
def project(tmp_path_factory, broker):
    folder = tmp_path_factory.mktemp("wide")
    server = DATABASE_URL.partition("?")[0].rpartition("/")[0] + "/postgres"
    names = {alias: f"wide_{alias}_{os.getpid()}" for alias in ALIASES}
    if not DATABASE_URL.startswith("postgres"):
        said: dict[str, Any] = {
            alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / f"{alias}.sqlite3")}
            for alias in ALIASES
        }
    else:
        known = conninfo_to_dict(server)
        place = {key.upper(): str(known[key]) for key in ("host", "port", "user", "password") if key in known}
        said = {
            alias: {"ENGINE": "django.db.backends.postgresql", **place, "NAME": name} for alias, name in names.items()
        }
        with psycopg.connect(server, autocommit=True) as connection:
            for name in names.values():
                connection.execute(f'CREATE DATABASE "{name}"')
    made = Shards(folder, said, broker.url)
    made.migrate()
    yield made
    made.end()
    if DATABASE_URL.startswith("postgres"):
        with psycopg.connect(server, autocommit=True) as connection:
            for name in names.values():
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def running(project):
    """Have a relay and a worker that serve both."""
    project.start_relay()
    project.start_worker()
    return project


ROWS = "print(json.dumps({alias: sorted(DurableTask.objects.using(alias).values_list('name', 'status')) for alias in databases.aliases()}))"
EMPTY = """
for alias in databases.aliases():
    for model in (Effect, Result, FailedAttempt, DurableTask):
        model.objects.using(alias).all().delete()
"""


class TestWhereACallGoes:
    """No relay runs here."""

    @pytest.fixture(autouse=True)
    def _empty(self, project):
        project.shell(EMPTY)

    def where(self, project: Shards, code: str) -> dict[str, int]:
        rows = project.shell(
            f"{code}\nprint(json.dumps({{a: DurableTask.objects.using(a).count() for a in databases.aliases()}}))"
        )
        return {alias: count for alias, count in rows.items() if count}

    def test_into_the_open_transaction(self, project):
        assert self.where(project, "with transaction.atomic('east'): keep.delay('a')") == {"east": 1}
        assert self.where(project, "with transaction.atomic(): keep.delay('a')") == {"default": 1, "east": 1}

    def test_and_it_goes_with_it(self, project):
        code = """
try:
    with transaction.atomic('east'):
        keep.delay('a')
        raise KeyError
except KeyError:
    pass
"""
        assert self.where(project, code) == {}

    def test_where_the_call_says(self, project):
        assert self.where(project, "keep.apply_async(('a',), using='east')") == {"east": 1}
        assert self.where(project, "with transaction.atomic(): keep.s('a').set(using='east').delay()") == {"east": 2}

    def test_a_database_without_a_ledger_is_refused(self, project):
        code = "try: keep.apply_async(('a',), using='west')\nexcept ValueError as error: print(json.dumps(str(error)))"
        assert "'west' is not one of LEDGER_DATABASES: default, east" in project.shell(code)

    def test_without_a_transaction_into_the_one_in_use_or_the_first(self, project):
        assert self.where(project, "keep.delay('a')") == {"default": 1}
        assert self.where(project, "with databases.using('east'): keep.delay('a')") == {"default": 1, "east": 1}

    def test_of_two_open_transactions_the_one_in_use_wins_and_then_the_first(self, project):
        both = "with transaction.atomic('east'), transaction.atomic():"
        assert self.where(project, f"{both} keep.delay('a')") == {"default": 1}
        assert self.where(project, f"{both}\n with databases.using('east'): keep.delay('a')") == {
            "default": 1,
            "east": 1,
        }

    def test_an_open_transaction_wins_over_the_one_in_use(self, project):
        assert self.where(project, "with databases.using('east'), transaction.atomic(): keep.delay('a')") == {
            "default": 1
        }

    def test_a_canvas_is_all_in_one(self, project):
        code = "with transaction.atomic('east'): chord([same.s(1), same.s(2)], add.s()).delay()"
        assert self.where(project, code) == {"east": 2}
        code = "group(same.s(1), chain(same.s(2), same.s())).apply_async(using='east')"
        assert self.where(project, code) == {"east": 4}

    def test_collected_calls_go_into_the_transaction_in_which_they_are_collected(self, project):
        code = """
with transaction.atomic('east'), collecting():
    keep.delay('a')
    keep.delay('b')
    with transaction.atomic(), databases.using('default'):
        keep.delay('c')
"""
        assert self.where(project, code) == {"east": 2, "default": 1}

    def test_a_savepoint_that_is_rolled_back_takes_its_collected_calls(self, project):
        code = """
with transaction.atomic('east'), collecting():
    keep.delay('a')
    try:
        with transaction.atomic('east'):
            keep.delay('b')
            raise KeyError
    except KeyError:
        pass
"""
        assert self.where(project, code) == {"east": 1}


class TestServing:
    def test_both_are_served_and_effects_are_where_their_tasks_are(self, running):
        running.shell(EMPTY)
        said = running.shell(
            """
handles = {}
for alias in databases.aliases():
    with transaction.atomic(alias):
        handles[alias] = [keep.delay('k'), call_out.delay('c'), chord([same.s(1), same.s(2)], add.s()).delay()]
print(json.dumps({alias: [handle.get(timeout=60) for handle in own] for alias, own in handles.items()}))
"""
        )
        assert said == {alias: [f"k in {alias}", f"c in {alias}", 3] for alias in ALIASES}
        wait_until("the task that a task called is done", lambda: all(n == 3 for n in effects(running).values()))

    def test_a_worker_killed_inside_a_task_loses_and_repeats_nothing(self, running):
        running.shell(EMPTY)
        running.shell("keep.apply_async(('first',), using='east').get(timeout=60)")
        running.shell("hold.apply_async(('held', 8), using='east'); hold.apply_async(('held', 8), using='default')")
        worker = running.processes[1]
        wait_until("both are running", lambda: worker.says("hold") and len(worker.children()) == 2)
        held = "print(json.dumps([DurableTask.objects.using(a).filter(name__endswith='hold', status='published').count() for a in databases.aliases()]))"
        wait_until("both are published", lambda: running.shell(held) == [1, 1])
        worker.kill(signal.SIGKILL)
        assert effects(running) == {"default": 0, "east": 1}, "the kill came too late"
        running.start_worker(name="second worker")
        wait_until("both are done", lambda: effects(running) == {"default": 1, "east": 2}, seconds=90)

    def test_a_child_killed_is_counted_where_its_row_is(self, running):
        running.shell(EMPTY)
        running.shell("call_out.apply_async(('killed', 5), using='east')")
        begun = "print(json.dumps(DurableTask.objects.using('east').filter(status='running').count()))"
        wait_until("it runs", lambda: running.shell(begun) == 1)
        worker = running.processes[-1]
        for child in worker.children():
            os.kill(child, signal.SIGKILL)
        failed = "print(json.dumps([FailedAttempt.objects.using(a).filter(error__contains='WorkerDied').count() for a in databases.aliases()]))"
        wait_until("the loss is counted", lambda: running.shell(failed) == [0, 1], seconds=30)
        wait_until("it is done", lambda: effects(running)["east"] == 2, seconds=60)

    def test_a_message_that_names_another_database_is_dropped(self, running, broker):
        running.shell(EMPTY)
        code = """
from celery_ledger.relay.broker import Broker
from celery_ledger.uuid7 import uuid7
import celery_ledger.relay.broker as module
app = keep.app
with databases.using('south'), Broker(app) as broker:
    broker.publish('celery', keep.name, [uuid7()])
"""
        running.shell(code)
        worker = running.processes[-1]
        wait_until("it is refused", lambda: worker.says("its database is not one of LEDGER_DATABASES"))
        assert running.shell("print(json.dumps(keep.delay('still').get(timeout=60)))") == "still in default"


def effects(project: Shards) -> dict[str, int]:
    counts: dict[str, int] = project.shell(
        "print(json.dumps({alias: Effect.objects.using(alias).count() for alias in databases.aliases()}))"
    )
    return counts
