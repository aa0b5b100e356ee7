"""A ledger in several databases: two SQLite files, or two databases of the PostgreSQL that the run is given."""

import json
import os
import signal
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.own_postgresql import OwnPostgreSQL, find_binaries
from tests.package.conftest import DATABASE_URL, Redis
from tests.package.shards import Shards
from tests.processes import wait_until

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
            alias: {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(folder / f"{alias}.sqlite3"),
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
            }
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


@pytest.fixture(scope="class")
def running(project):
    """Have a relay and a worker that serve both, until the class ends."""
    project.start_relay()
    project.start_worker()
    yield project
    project.end()
    project.processes.clear()


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
        assert self.where(project, code).keys() == {"east"}
        code = "group(same.s(1), chain(same.s(2), same.s())).apply_async(using='east')"
        assert self.where(project, code).keys() == {"east"}

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


class TestAway:
    @pytest.fixture
    def server(self, tmp_path):
        binaries = find_binaries()
        if binaries is None:
            pytest.skip("there are no PostgreSQL binaries on this machine")
        server = OwnPostgreSQL(tmp_path / "east.log", binaries)
        yield server
        server.close()

    @pytest.mark.postgresql
    def test_one_away_leaves_the_other_working_and_heals(self, tmp_path, project, broker, server):
        place = {"HOST": "127.0.0.1", "PORT": str(server.port), "USER": "postgres", "NAME": "shop"}
        east = {"ENGINE": "django.db.backends.postgresql", **place, "OPTIONS": {"connect_timeout": 2}}
        own = Shards(tmp_path, {"default": project.said["default"], "east": east}, broker.url)
        own.migrate()
        own.shell(EMPTY)
        try:
            own.start_relay()
            own.start_worker()
            own.shell("keep.apply_async(('before',), using='east').get(timeout=60)")
            own.shell("call_out.apply_async(('later',), using='east', countdown=2)")
            self.east = own.shell("print(json.dumps(str(keep.apply_async(('c',), using='east', countdown=600).id)))")
            server.stop_at_once()
            code = "print(json.dumps([keep.apply_async((f'{n}',)).get(timeout=60) for n in range(20)]))"
            assert own.shell(code) == [f"{n} in default" for n in range(20)]
            said = own.manage("outbox", "stats", code=1)
            assert "database default" in said
            assert "celery" in said
            with pytest.raises(AssertionError):  # It is away, and a call into it says so.
                own.shell("keep.apply_async(('no',), using='east')")
            self.revoke_what_answers(own)
            server.start()
            healed = "print(json.dumps(sorted(Effect.objects.using('east').values_list('what', flat=True))))"
            wait_until("it heals", lambda: own.shell(healed) == ["after later", "before", "later"], seconds=60)
            assert all(process.is_alive for process in own.processes)
        finally:
            own.end()

    def revoke_what_answers(self, own: Shards) -> None:
        """What can be revoked is, and an error names the database that did not answer."""

        def waiting() -> list[str]:
            code = "[str(keep.apply_async(('d',), countdown=600).id) for _ in range(3)]"
            return list(own.shell(f"print(json.dumps({code}))"))

        def are_cancelled(*ids: str) -> bool:
            found = f"DurableTask.objects.using('default').filter(id__in={ids}, status='cancelled').count()"
            return bool(own.shell(f"print(json.dumps({found}))") == len(ids))

        first, second, third = waiting()
        said = own.shell(
            f"""
from celery_ledger.desk.cancelling import cancel
try: cancel([{self.east!r}, {first!r}], reason='test')
except databases.AwayError as error: print(json.dumps([str(error), error.databases]))
"""
        )
        assert "these did not answer: east (" in said[0]
        assert said[1] == ["east"]
        own.shell(f"cancel = AsyncResult({second!r}).revoke()")
        refused = own.shell(
            f"""
from celery_ledger.desk.control import CannotRevokeError
try: keep.app.control.revoke([{self.east!r}, {third!r}])
except CannotRevokeError as error: print(json.dumps(str(error)))
"""
        )
        assert "east (" in refused
        assert are_cancelled(first, second, third)
        first, second, third = waiting()
        done = own.run("-m", "django", "outbox", "cancel", self.east, first, "--reason", "test", code=1, both=True)
        assert "1 cancelled." in done
        assert "east: The database" in done
        done = own.run("-m", "django", "outbox", "task", self.east, code=1, both=True)
        assert "cannot be used" in done
        assert "Traceback" not in done
        command = ("-m", "celery", "-A", "tests.package.sharded", "control", "--timeout", "20", "terminate", "TERM")
        done = own.run(*command, self.east, second, code=None, both=True)
        assert "these did not answer: east (" in done
        canvas = "str(chain(same.si(1), same.si(2)).apply_async(using='default', countdown=600).parent.id)"
        code = f"from celery_ledger.desk.cancelling import cancel_canvas\nid = {canvas}"
        assert own.shell(f"{code}\nprint(json.dumps(cancel_canvas(id, reason='test')))") == 1
        assert are_cancelled(first, second)


class TestOperators:
    """No relay runs here: commands see all databases, and act where a task is."""

    @pytest.fixture(autouse=True)
    def _empty(self, project):
        project.shell(EMPTY)

    def test_figures_of_all(self, project):
        project.shell("keep.apply_async(('a',), using='east'); keep.delay('b')")
        said = json.loads(project.manage("outbox", "stats", "--json"))
        assert {alias: [state["pending"] for state in own] for alias, own in said.items()} == {
            "default": [1],
            "east": [1],
        }
        only = json.loads(project.manage("outbox", "--database", "east", "stats", "--json"))
        assert only.keys() == {"east"}
        assert project.manage("outbox", "tasks").count(".keep") == 2

    def test_a_task_is_cancelled_where_it_is(self, project):
        code = (
            "print(json.dumps([str(keep.apply_async(('a',), using=a, countdown=60).id) for a in databases.aliases()]))"
        )
        ids = project.shell(code)
        assert project.manage("outbox", "cancel", *ids, "--reason", "test").count("1 cancelled.") == 2
        assert counts(project, "DurableTask", "filter(status='cancelled')") == {"default": 1, "east": 1}

    def test_a_canvas_is_cancelled_by_its_own_id(self, project):
        code = """
id = chain(same.si(1), same.si(2)).apply_async(using='east', countdown=60).parent.id
print(json.dumps(str(DurableTask.objects.using('east').get(pk=id).canvas)))
"""
        said = project.manage("outbox", "cancel", "--canvas", project.shell(code), "--reason", "test")
        assert "database east\n1 cancelled." in said

    def test_revoked_like_in_celery(self, project):
        code = """
handle = keep.apply_async(('a',), using='east', countdown=60)
handle.revoke()
print(json.dumps(handle.state))
"""
        assert project.shell(code) == "REVOKED"

    def test_a_canvas_and_a_queryset_are_cancelled_where_they_are(self, project):
        code = """
from celery_ledger.desk.cancelling import cancel, cancel_canvas
id = str(chain(same.si(1), same.si(2)).apply_async(using='east', countdown=60).parent.id)
keep.apply_async(('a',), using='east', countdown=60)
done = [cancel_canvas(id, reason='test'), cancel(DurableTask.objects.using('east').all(), reason='test')]
print(json.dumps(done))
"""
        assert project.shell(code) == [1, 1]

    def test_a_saved_group_is_found_wherever_it_was_saved(self, project):
        code = """
with transaction.atomic('east'):
    called = group(same.s(1), same.s(2)).delay()
    called.save()
print(json.dumps([called.id, KeptGroup.objects.using('east').count()]))
"""
        id, kept = project.shell(code)
        assert kept == 1
        code = f"from celery.result import GroupResult\nfound = GroupResult.restore({id!r}, app=keep.app)"
        assert project.shell(f"{code}\nprint(json.dumps(len(found.results)))") == 2
        project.shell(f"{code}\nfound.delete()")
        assert counts(project, "KeptGroup") == {"default": 0, "east": 0}

    def test_verify_finds_what_is_wrong_in_any(self, project):
        assert project.manage("outbox", "verify").count("kept") >= 4
        project.shell("DurableTask.objects.using('east').create(name='x', queue='celery', status='dead')")
        said = json.loads(project.manage("outbox", "verify", "--json", code=1))
        assert {alias: own["ok"] for alias, own in said.items()} == {"default": True, "east": False}

    def test_metrics_have_a_label(self, project):
        project.shell("keep.apply_async(('a',), using='east'); keep.delay('b')")
        code = """
from prometheus_client import CollectorRegistry, generate_latest
from celery_ledger.watch.metrics import LedgerCollector
registry = CollectorRegistry()
registry.register(LedgerCollector())
print(json.dumps(generate_latest(registry).decode()))
"""
        said = project.shell(code)
        for alias in ALIASES:
            assert f'celery_ledger_database_up{{database="{alias}"}} 1.0' in said
            assert 'status="pending",task="tests.package.sharded.tasks.keep"} 1.0' in said

    def test_doctor_looks_at_each(self, project):
        said = project.manage("doctor", code=None)
        assert "migrations (default): 0 have not been applied" in said
        assert "migrations (east): 0 have not been applied" in said

    def test_checks(self, project, tmp_path):
        west = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "west.sqlite3")}
        wider = Shards(tmp_path, {**project.said, "west": west}, "memory://")
        done = wider.run("-m", "django", "check", "--database", "west", code=None, both=True)
        assert "celery_ledger.W021" in done
        assert "migrate --database west" in done
        wider.environment["LEDGER_DATABASES"] = "default north"
        done = wider.run("-m", "django", "check", code=None, both=True)
        assert "celery_ledger.E018" in done
        assert "'north'" in done


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
        held = "filter(name__endswith='hold', status='published')"
        wait_until("both are published", lambda: counts(running, "DurableTask", held) == {"default": 1, "east": 1})
        worker.kill(signal.SIGKILL)
        assert effects(running) == {"default": 0, "east": 1}, "the kill came too late"
        running.start_worker(name="second worker")
        wait_until("both are done", lambda: effects(running) == {"default": 1, "east": 2}, seconds=90)

    def test_a_child_killed_is_counted_where_its_row_is(self, running):
        running.shell(EMPTY)
        running.shell("call_out.apply_async(('killed', 12), using='east')")
        begun = "print(json.dumps(DurableTask.objects.using('east').filter(status='running').count()))"
        wait_until("it runs", lambda: running.shell(begun) == 1)
        worker = running.processes[-1]
        for child in worker.children():
            os.kill(child, signal.SIGKILL)
        failed = "filter(error__contains='WorkerDied')"
        wait_until("the loss is counted", lambda: counts(running, "FailedAttempt", failed) == {"default": 0, "east": 1})
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


def counts(project: Shards, model: str, which: str = "all()") -> dict[str, int]:
    each = f"{{alias: {model}.objects.using(alias).{which}.count() for alias in databases.aliases()}}"
    found: dict[str, int] = project.shell(f"print(json.dumps({each}))")
    return found


def effects(project: Shards) -> dict[str, int]:
    return counts(project, "Effect")
