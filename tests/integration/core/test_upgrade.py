"""A database of the last release before the ledger was a package is migrated with all its content."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from uuid import UUID

import pytest

from tests import old_release
from tests.old_release import COUNTS, task_id
from tests.processes import ROOT

pytestmark = pytest.mark.once
ALL = sum(COUNTS.values())


class OldFile:
    """The old release's database as a file."""

    def __init__(self, path) -> None:
        self.path = path

    def load(self, marks) -> None:
        with closing(sqlite3.connect(self.path)) as database:
            database.executescript(old_release.dump("sqlite"))
            old_release.fill(database.executemany, marks)
            database.commit()

    def manage(self, *arguments):
        environment = {**os.environ, "DEBUG": "1", "DATABASE_URL": f"sqlite:///{self.path}"}
        environment["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def migrate(self, *arguments):
        migrated = self.manage("migrate", *arguments)
        assert migrated.returncode == 0, migrated.stderr

    def ask(self, code):
        """Run code with the project set up, and return what it prints, line by line."""
        answer = self.manage("shell", "-v0", "-c", code)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.splitlines()

    def rows(self, sql):
        with closing(sqlite3.connect(self.path)) as database:
            return database.execute(sql).fetchall()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    OldFile(folder / "old.sqlite3").load(folder / "marks")
    return folder / "old.sqlite3"


@pytest.fixture
def old(loaded, tmp_path):
    """The database as the old release left it."""
    file = OldFile(tmp_path / "shop.sqlite3")
    file.path.write_bytes(loaded.read_bytes())
    return file


@pytest.fixture(scope="module")
def migrated(loaded):
    file = OldFile(loaded.with_name("migrated.sqlite3"))
    file.path.write_bytes(loaded.read_bytes())
    file.migrate()
    return file.path


@pytest.fixture
def moved(migrated, tmp_path):
    """The same, migrated."""
    file = OldFile(tmp_path / "moved.sqlite3")
    file.path.write_bytes(migrated.read_bytes())
    return file


PERMISSIONS = """
from accounts.models import User
olga = User.objects.get(username="olga")
print(*sorted(p for p in olga.get_all_permissions() if "celery_ledger" in p or "worker" in p))
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from celery_ledger.models import DurableTask
print(LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(DurableTask)).count())
print(ContentType.objects.filter(app_label="worker").count())
"""


def test_every_row_is_there_and_all_is_called_as_in_a_new_database(loaded, moved):
    kinds = dict(OldFile(loaded).rows("SELECT status, count(*) FROM worker_durabletask GROUP BY 1"))
    assert dict(moved.rows("SELECT status, count(*) FROM celery_ledger_durabletask GROUP BY 1")) == kinds
    assert sum(kinds.values()) == ALL
    attempts = COUNTS["dead"] + 2 * COUNTS["retrying"]
    assert moved.rows("SELECT count(*) FROM celery_ledger_failedattempt") == [(attempts,)]
    assert moved.rows("SELECT sum(rows) FROM celery_ledger_tally WHERE outcome = 'succeeded'") == [(3_000,)]
    assert moved.rows("SELECT concurrency FROM celery_ledger_queuelimit") == [(20,)]
    assert moved.rows("SELECT queue FROM celery_ledger_queueswitch") == [("reports",)]
    assert moved.rows("SELECT count(*) FROM celery_ledger_queuesample") == [(100,)]
    assert moved.rows("SELECT catch_up FROM celery_ledger_beat_schedulepolicy WHERE alert_after = 77") == [("skip",)]
    assert moved.rows("SELECT task FROM django_celery_beat_periodictask WHERE name = 'Prune the ledger'") == [
        ("celery_ledger.tasks.prune",)
    ]
    # A view cannot be written to here, and would keep Django from ever altering the table.
    assert moved.rows("SELECT name FROM sqlite_master WHERE name LIKE 'worker%' OR name LIKE 'durable%'") == []
    new = OldFile(moved.path.with_name("new.sqlite3"))
    new.migrate("celery_ledger")
    assert names(moved) == names(new)
    violations = "from django.db import connection; connection.check_constraints()"
    assert moved.ask(violations) == []


def names(file):
    """Return the names of the package's indexes, and what they are of."""
    found = file.rows(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name LIKE 'celery_ledger_%'"
        " AND tbl_name NOT LIKE 'celery_ledger_beat%' AND sql IS NOT NULL"
    )
    return sorted(found)


def test_who_might_decide_still_may_and_what_was_done_is_still_known(moved):
    permissions, history, left = moved.ask(PERMISSIONS)
    assert permissions.split() == [
        "celery_ledger.change_queueswitch",
        "celery_ledger.replay_durabletask",
        "celery_ledger.view_durabletask",
    ]
    assert (history, left) == ("1", "0")


@pytest.mark.fault("F126")
def test_f126_so_it_is_if_the_package_came_first_and_was_used(old):
    """Content types were made, permissions granted, a task enqueued where nothing looks any more."""
    old.migrate("celery_ledger")
    old.ask(
        "from accounts.models import User; from django.contrib.auth.models import Permission;"
        "from celery_ledger.models import DurableTask;"
        "User.objects.get(username='olga').user_permissions.add(Permission.objects.get("
        "codename='discard_durabletask', content_type__app_label='celery_ledger'));"
        "DurableTask.objects.create(name='tests.ring', queue='default', args=['early'])"
    )
    old.migrate()
    permissions, history, left = old.ask(PERMISSIONS)
    assert permissions.split() == [
        "celery_ledger.change_queueswitch",
        "celery_ledger.discard_durabletask",
        "celery_ledger.replay_durabletask",
        "celery_ledger.view_durabletask",
    ]
    assert (history, left) == ("1", "0")
    assert old.rows("SELECT count(*) FROM celery_ledger_durabletask WHERE name = 'tests.ring'") == [(1,)]
    assert old.rows("SELECT count(*) FROM celery_ledger_durabletask") == [(ALL + 1,)]


def test_the_audit_trail_is_as_it_was_and_its_search_finds_entries_by_both_names(moved):
    id = UUID(task_id("dead", 0))
    found = moved.ask(
        f"""
from audit_trail import audit
from accounts.models import User
from audit_trail.models import AuditEntry
from django.test import Client
from django.test.utils import setup_test_environment
setup_test_environment()
audit.write_of_all("celery_ledger.durabletask", ["{id}"], before={{}}, after={{}})
User.objects.filter(username="olga").update(is_superuser=True)
client = Client()
client.force_login(User.objects.get(username="olga"), "django.contrib.auth.backends.ModelBackend")
page = client.get("/admin/audit_trail/auditentry/", {{"q": "{id}"}}, headers={{"host": "localhost"}})
print(*sorted(entry.model for entry in page.context["cl"].result_list))
history = client.get("/admin/celery_ledger/durabletask/{id}/history/", headers={{"host": "localhost"}})
print(len(history.context["action_list"]))
"""
    )
    assert found == ["celery_ledger.durabletask worker.durabletask", "1"]


def test_who_might_read_the_audit_trail_still_may_though_it_is_an_app_now(old):
    with closing(sqlite3.connect(old.path)) as database:
        database.execute(
            "INSERT INTO core_user_user_permissions (user_id, permission_id)"
            " SELECT 1000, id FROM auth_permission WHERE codename = 'view_auditentry'"
        )
        database.commit()
    [entries] = old.rows("SELECT count(*) FROM core_auditentry")
    old.migrate()
    granted = old.ask(
        """
from accounts.models import User
print(*(each for each in User.objects.get(username="olga").get_user_permissions() if "auditentry" in each))
"""
    )
    assert granted == ["audit_trail.view_auditentry"]
    assert old.rows("SELECT count(*) FROM django_content_type WHERE model = 'auditentry'") == [(1,)]
    assert old.rows("SELECT count(*) FROM core_auditentry") == [entries]


def test_there_is_no_way_back_and_it_says_what_to_do_instead(moved):
    back = moved.manage("migrate", "worker", "zero")
    assert back.returncode != 0
    assert "start its processes again" in back.stderr
    assert moved.rows("SELECT count(*) FROM celery_ledger_durabletask") == [(ALL,)]
    assert moved.manage("migrate").returncode == 0
