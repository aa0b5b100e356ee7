"""The package as a guest: importing it does nothing, its names are its own, and it writes only into its own tables."""

import json
import subprocess
import sys

import pytest

from tests.package.project import ENVIRONMENT
from tests.processes import ROOT

pytestmark = pytest.mark.once

IMPORTING = """
import json, pkgutil, sys
import celery_ledger
from celery_ledger import Task, PermanentError, install, project, conf, retries, errors
from celery import _state
print(json.dumps([
    _state.default_app is None, _state._tls.current_app is None, len(list(_state._get_active_apps())),
    "django.db.models" in sys.modules and bool(sys.modules["django"].apps.apps.models_ready),
]))
"""

#: Every app of the package, with what they need and what else a project may have; and no Celery app at all.
FRESH = """
import json, sys
from django.conf import settings
from importlib.util import find_spec

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1] + "/db.sqlite3"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "django.contrib.messages",
        "django.contrib.admin", "django_celery_beat", "django_celery_results", "celery_ledger",
        "celery_ledger.contrib.beat", "celery_ledger.contrib.admin",
    ],
    USE_TZ=True,
    CELERY_BROKER_URL="redis://",
)
import django
django.setup()
from celery import _state
apps_made = len(list(_state._get_active_apps()))
from django.apps import apps
from django.core.management import call_command, get_commands
from django.db import connection

call_command("migrate", verbosity=0)
with connection.cursor() as cursor:
    counts = {}
    for table in connection.introspection.table_names():
        cursor.execute(f"SELECT COUNT(*) FROM {connection.ops.quote_name(table)}")
        counts[table] = cursor.fetchone()[0]
ours = [each for each in apps.get_app_configs() if each.name.startswith("celery_ledger")]
from celery import Celery
app = Celery("stranger", task_cls="celery_ledger:Task")
before = set(app.tasks)
from celery_ledger import tasks
print(json.dumps({
    "apps_made": apps_made,
    "filled": sorted(table for table, rows in counts.items() if rows),
    "labels": [each.label for each in ours],
    "tables": sorted(model._meta.db_table for each in ours for model in each.get_models()),
    "tasks": sorted(set(app.tasks) - before),
    "commands": sorted(name for name, home in get_commands().items() if home in {each.name for each in ours}),
}))
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_it_makes_no_app_and_takes_nobodys_place():
    assert run(IMPORTING) == [True, True, 0, False]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A database that was just migrated, and the names that are in the project by then."""
    return run(FRESH, tmp_path_factory.mktemp("fresh"))


def test_django_without_a_celery_app_is_given_none(fresh):
    assert fresh["apps_made"] == 0


def test_nothing_is_seeded(fresh):
    assert fresh["filled"] == ["auth_permission", "django_content_type", "django_migrations"]


@pytest.mark.parametrize("what", ["labels", "tables", "tasks"])
def test_every_name_begins_with_the_packages(fresh, what):
    assert fresh[what]
    assert [name for name in fresh[what] if not name.startswith("celery_ledger")] == []


def test_its_commands_are_those_that_are_told_of(fresh):
    assert fresh["commands"] == ["doctor", "health", "ledger_adopt", "outbox", "relay"]


TRAPPED = """
import json
from celery import Celery, _state
from celery.contrib.testing.app import Trap
_state.set_default_app(Trap())
from celery_ledger import project
try:
    project.find_app()
except project.AppNotFoundError as error:
    said = str(error)
print(json.dumps([said[:35], type(_state.default_app).__name__]))
"""


def test_what_celerys_test_fixtures_put_in_the_place_of_an_app_is_none():
    assert run(TRAPPED) == ["This project's Celery app cannot be", "Trap"]


#: An app without task_cls, in a project that has the package installed and a durable signal.
NOT_YET = """
import json, sys
from django.conf import settings

settings.configure(INSTALLED_APPS=["celery_ledger"], USE_TZ=True)
import django
django.setup()
from celery import Celery
from celery.app.defaults import DEFAULTS
from celery_ledger.signals import DurableSignal

def hear(**kwargs):
    pass

if sys.argv[1] == "with a receiver":
    DurableSignal("guests.told").connect(hear, dispatch_uid="guests.hear")
app = Celery("stranger", broker="memory://")
before = {"steps": {name: len(steps) for name, steps in app.steps.items()}, "control": app.control_cls}
known = {name: DEFAULTS[name] for name in ("worker_prefetch_multiplier", "result_backend", "worker_lost_wait")}
app.autodiscover_tasks(["celery_ledger"], force=True)
print(json.dumps({
    "has its tasks": "celery_ledger.tasks.prune" in app.tasks,
    "steps": before["steps"] == {name: len(steps) for name, steps in app.steps.items()},
    "control": before["control"] == app.control_cls,
    "settings": known == {name: app.conf[name] for name in known},
    "sends itself": "send_task" not in vars(app),
}))
"""


def test_an_app_without_durable_tasks_is_as_it_was():
    assert set(run(NOT_YET, "without").values()) == {True}


def test_an_app_without_durable_tasks_can_send_a_durable_signal_again():
    found = run(NOT_YET, "with a receiver")
    assert found.pop("has its tasks")
    assert set(found.values()) == {False}
