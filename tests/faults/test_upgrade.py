"""A database of the last release before the ledger was a package, with 10,000 tasks, is migrated during operation."""

import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection

from tests import old_release
from tests.old_release import COUNTS, OPEN, statements
from tests.processes import Machine, database_url, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql, pytest.mark.timeout(600)]
#: Enqueued by the old release's session after its tables have become views.
LATE = 40
SUCCESS = {"outcome": "succeeded", "bucket": 0, "slot": 9, "rows": 1}


class OldDatabase:
    """A database of the old release on the server that the tests use."""

    def __init__(self, url: str) -> None:
        self.url = url

    def connect(self, **options):
        return psycopg.connect(self.url, **options)

    def one(self, sql, *parameters):
        with self.connect(autocommit=True) as database:
            return database.execute(sql, parameters or None).fetchone()[0]


@pytest.fixture
def old_database(tmp_path):
    usual = database_url()
    name = f"{connection.settings_dict['NAME']}_of_old"
    with psycopg.connect(usual, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        database = OldDatabase(urlsplit(usual)._replace(path=f"/{name}").geturl())
        try:
            with database.connect() as old:
                old.execute(old_release.dump("postgresql"))
            with database.connect(options="-c timezone=UTC") as old, old.cursor() as cursor:
                marks = tmp_path / "marks"
                old_release.fill(lambda sql, rows: cursor.executemany(sql.replace("?", "%s"), rows), marks)
            yield database
        finally:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def old_machine(old_database, tmp_path):
    with Machine(tmp_path) as machine:
        machine.environment["DATABASE_URL"] = old_database.url
        yield machine


class OldWorker(threading.Thread):
    """Claims and completes tasks with the old release's statements, which it prepares, until it is stopped."""

    def __init__(self, database: OldDatabase) -> None:
        super().__init__()
        self.database = database
        self.stopped = threading.Event()
        self.done = 0
        self.longest_wait = 0.0
        self.changed_plans = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with self.database.connect(prepare_threshold=2) as link:
                while not self.stopped.wait(0.05):
                    began = time.monotonic()
                    try:
                        self.turn(link)
                    except psycopg.errors.FeatureNotSupported:  # Once, for "attempts" has another type.
                        link.rollback()
                        self.changed_plans += 1
                    self.longest_wait = max(self.longest_wait, time.monotonic() - began)
        except psycopg.Error as error:
            self.error = error

    def turn(self, link) -> None:
        claimed = link.execute(
            statements.CLAIM,
            {"queues": ["default"], "rooms": [4], "priorities": [0, 5, 9], "lease": 60, "limit": 4},
        ).fetchall()
        link.commit()
        ids = [id for id, name, _, lapses in claimed if name.startswith("tests.make") and lapses < 2]
        rows = link.execute(statements.COMPLETE, {"ids": ids, "counted": 1, "most_lapses": 1}).fetchall()
        for _, name, args, *_ in rows:
            link.execute("INSERT INTO store_collection (title) VALUES (%s)", args)
            link.execute(statements.TALLY, SUCCESS | {"name": name})
        link.commit()
        self.done += len(rows)

    def stop(self) -> None:
        self.stopped.set()
        self.join()
        if self.error:
            raise self.error


@contextmanager
def old_worker_at_work(database):
    worker = OldWorker(database)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def take_one(link):
    """Return the row of a published task, completed and not committed; nothing where others have each of them."""
    found = link.execute(
        "SELECT id FROM worker_durabletask WHERE name = 'tests.make_collections' AND status = 'published'"
        " AND lapses = 0 LIMIT 1 FOR UPDATE SKIP LOCKED"
    ).fetchall()
    ids = [id for (id,) in found]
    return link.execute(statements.COMPLETE, {"ids": ids, "counted": 1, "most_lapses": 1}).fetchall()


@contextmanager
def holding_a_task(database):
    """Have an old worker in the middle of a task: its row is locked, its effect is not committed."""
    with database.connect() as link:
        taken = []
        wait_until("a task is in its hands", lambda: taken.extend(take_one(link)) or taken)
        ((_, _, args, *_),) = taken
        link.execute("INSERT INTO store_collection (title) VALUES (%s)", args)
        link.execute(statements.TALLY, SUCCESS | {"name": old_release.BATCHED, "slot": 8})
        yield
        link.commit()


@pytest.mark.fault("F125")
def test_f125_ten_thousand_tasks_move_while_old_workers_finish_and_all_run_once(old_database, old_machine, tmp_path):
    """Counts per status add up, each effect is there once, and what people decided stays so."""
    with old_worker_at_work(old_database) as old:
        wait_until("the old worker works", lambda: old.done > 20)
        with holding_a_task(old_database):
            moved = threading.Thread(target=lambda: outcome.append(old_machine.run_command("migrate", "-v1")))
            outcome = []
            moved.start()
            wait_until("the migration waits", lambda: old_database.one(WAITS), seconds=120)
            before = old.done
            wait_until("others go on meanwhile", lambda: old.done > before + 20, seconds=120)
        moved.join(300)
        assert outcome[0].returncode == 0, outcome[0].stderr
        assert old_database.one("SELECT relkind FROM pg_class WHERE relname = 'worker_durabletask'") == "v"
        before = old.done
        wait_until("the old worker goes on by the views", lambda: old.done > before + 20, seconds=120)
    assert old.changed_plans <= 2
    everything_else_of_the_old_release_works(old_database)

    old_machine.start_worker("-Q", "default")
    old_machine.start_relay()
    undone = "SELECT count(*) FROM celery_ledger_durabletask WHERE status IN ('pending', 'published', 'running')"
    wait_until(
        "all have run but what is due tomorrow",
        lambda: old_database.one(undone) == COUNTS["later"],
        seconds=240,
    )
    counts = dict(old_rows(old_database, "SELECT status, count(*) FROM celery_ledger_durabletask GROUP BY 1"))
    ran = sum(COUNTS[kind] for kind in OPEN) + LATE
    assert counts == {
        "succeeded": COUNTS["succeeded"] + ran,
        "dead": COUNTS["dead"],
        "cancelled": COUNTS["cancelled"],
        "pending": COUNTS["later"],
    }
    effects = COUNTS["succeeded"] + ran - COUNTS["redelivery"] - COUNTS["running"]
    assert old_rows(old_database, "SELECT count(*), count(DISTINCT title) FROM store_collection") == [
        (effects, effects)
    ]
    assert (tmp_path / "marks").read_text().count("mark") == COUNTS["running"]
    redelivered = "SELECT count(*) FROM core_auditentry WHERE model = 'celery_ledger.durabletask'"
    assert old_database.one(redelivered) == COUNTS["redelivery"]
    succeeded = "SELECT sum(rows) FROM celery_ledger_tally WHERE outcome = 'succeeded'"
    assert old_database.one(succeeded) == counts["succeeded"]
    attempts = COUNTS["dead"] + 2 * COUNTS["retrying"] + 1
    assert old_database.one("SELECT count(*) FROM celery_ledger_failedattempt") == attempts
    assert old_database.one("SELECT count(*) FROM worker_failedattempt") == attempts
    assert old_database.one("SELECT concurrency FROM celery_ledger_queuelimit WHERE queue = 'emails'") == 20
    assert old_database.one("SELECT count(*) FROM celery_ledger_queueswitch") == 1
    assert old_database.one("SELECT count(*) FROM celery_ledger_queuesample WHERE lag = 7.5") == 100
    assert (
        old_database.one(
            "SELECT alert_after FROM celery_ledger_beat_schedulepolicy WHERE catch_up = 'skip' AND alert_after = 77"
        )
        == 77
    )


#: Whether a migration waits for a lock, or for its next try.
WAITS = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LOCK TABLE%')
        OR EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'
                   AND query LIKE 'ROLLBACK TO SAVEPOINT%')
"""


def old_rows(database, sql):
    with database.connect(autocommit=True) as link:
        return link.execute(sql).fetchall()


def everything_else_of_the_old_release_works(database):
    """Say to the views what else the old release says to its tables."""
    with database.connect(autocommit=True) as link:
        for number in range(LATE):
            for _ in range(2):  # The second time its key is known.
                call = [
                    old_release.task_id("late", number + 1_000 * _),
                    old_release.BATCHED,
                    "default",
                    5,
                    f'["late {number}"]',
                    "{}",
                    None,
                    "",
                    f"late {number}",
                    None,
                    0,
                ]
                link.execute(statements.ENQUEUE, call)
        columns = "status, attempts, lapses, last_error, fingerprint, request_id, expires_at, created_at IS NOT NULL"
        assert old_rows(
            database, f"SELECT DISTINCT {columns} FROM celery_ledger_durabletask WHERE unique_key LIKE 'late%'"
        ) == [("pending", 0, 0, "", "", "", None, True)]
        link.execute(statements.LAPSE)
        ((id, *_),) = link.execute(
            "UPDATE worker_durabletask SET status = 'published' WHERE unique_key = 'late 7' RETURNING id"
        ).fetchall()
        failure = {"id": id, "attempts": 1, "before": 0, "error": "OSError: away", "status": "pending"}
        assert link.execute(statements.FAIL, failure).rowcount == 1
        assert link.execute(statements.FAILED_ATTEMPT, failure).fetchone()[0] > 0
        link.execute(statements.HEARTBEAT)
        link.execute(statements.SAMPLE)
