"""
The package is taken out of a project again, with work still in its tables, in the order that the guide gives.

Three releases of one project, each in a folder of its own: with the package, with the package on another broker, and
without it. What is waiting, what is called meanwhile by either release, and what is due tomorrow is done once.
"""

import copy
import json
import re
import shutil

import pytest

from tests.package.conftest import DATABASE_URL, PostgreSQL, Redis, SQLite
from tests.package.project import Project
from tests.processes import ROOT, wait_until

GUIDE = ROOT / "docs" / "guide" / "adding-it-to-your-project.md"
#: A task whose effect can be counted, and one that fails for good.
TASKS = """

@shared_task
def add_widget(name):
    Widget.objects.create(name=name)


@shared_task
def fail(name):
    raise LookupError(name)
"""
CALLS = 20
TOMORROW = 5

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]


@pytest.fixture
def project(make_environment, tmp_path):
    """A project that has the package, with its relay and its worker."""
    (tmp_path / "durable").mkdir()
    broker = Redis(tmp_path)
    database = PostgreSQL("removal") if DATABASE_URL.startswith("postgres") else SQLite(tmp_path)
    project = None
    try:
        python = make_environment("redis", *database.driver)
        project = Project(tmp_path / "durable", python, database, broker, guests=())
        with (project.folder / "demoapp" / "tasks.py").open("a") as tasks:
            tasks.write(TASKS)
        with (project.folder / "proj" / "settings.py").open("a") as settings:
            settings.write(f'DATABASES = {{"default": {database.said!r}}}\nCELERY_TASK_IGNORE_RESULT = True\n')
        project.run("manage.py", "migrate")
        yield project
        project.show_logs()
    finally:
        if project is not None:
            project.end()
        database.drop()
        broker.end()


def released(project: Project, name: str, file: str, before: str, after: str) -> Project:
    """Return another release of the project: a copy with one change, which has processes of its own."""
    other = copy.copy(project)
    other.folder = project.folder.with_name(name)
    other.worker, other.worker_is = None, ()
    shutil.copytree(project.folder, other.folder)
    text = (other.folder / file).read_text()
    assert text.count(before) == 1
    (other.folder / file).write_text(text.replace(before, after))
    return other


def call(project: Project, prefix: str, *, count: int = CALLS, countdown: int = 0) -> list[str]:
    names = [f"{prefix} {number}" for number in range(count)]
    project.shell(f"for name in {names!r}: add_widget.apply_async([name], countdown={countdown})")
    return names


def waiting(project: Project) -> dict[str, int]:
    """Return the sums of what `outbox stats` says."""
    queues = json.loads(project.run("manage.py", "outbox", "stats", "--json"))
    return {key: sum(queue[key] for queue in queues) for key in ("pending", "retrying", "published", "running", "dead")}


def scheduled(project: Project) -> list[str]:
    """Return the first argument of each task that the workers of plain Celery keep for later."""
    code = "import json; from proj.celery import app; print(json.dumps(app.control.inspect(timeout=5).scheduled()))"
    found = json.loads(project.shell(code)) or {}
    return sorted(entry["request"]["args"][0] for entries in found.values() for entry in entries)


def test_nothing_is_lost_or_doubled_when_the_package_is_taken_out_by_the_guide(project):
    relay = project.start_relay()
    project.start_worker()
    called = call(project, "before")
    wait_until("they are done", lambda: len(widgets(project)) == len(called), seconds=120)

    # 1. No relay: what is called waits in the table, and the broker's queue becomes empty.
    relay.stop()
    called += call(project, "waiting") + call(project, "soon", countdown=20)
    tomorrow = call(project, "tomorrow", count=TOMORROW, countdown=86_400)
    project.shell("fail.delay('in vain')")
    wait_until("the queue is empty", lambda: not project.broker.depth() and not project.broker.client.hlen("unacked"))
    assert waiting(project)["pending"] == 2 * CALLS + TOMORROW + 1

    # 2. A relay and a worker on another broker.
    other_url = project.broker.url.replace("/0", "/1")
    settings = "proj/settings.py"
    last = released(project, "last", settings, repr(project.broker.url), repr(other_url))
    last_relay = last.start_relay()
    last.start_worker()

    # 3. Without task_cls: the workers first, then the processes that call.
    plain = released(project, "plain", "proj/celery.py", ', task_cls="celery_ledger:Task"', "")
    project.stop_worker()
    plain.start_worker()
    called += call(project, "by the old release") + call(plain, "by the new release")

    # 4. and 5. The table becomes empty, but for what is due tomorrow and the dead letter.
    wait_until("the table is empty", lambda: has_only(waiting(plain), TOMORROW), seconds=180)
    assert "demoapp.tasks.fail" in plain.run("manage.py", "outbox", "dead")
    plain.run("manage.py", "outbox", "discard", "--all")

    # 6. What is due tomorrow is called again; the code says what it has done, and has nothing to do a second time.
    last_relay.stop()
    last.stop_worker()
    [code] = re.findall(r"```python\n(.*?)```", GUIDE.read_text().partition("## Removing it")[2], re.DOTALL)
    code = re.sub(r"^ {3}", "", code, flags=re.MULTILINE)
    plain.shell(code)
    plain.shell(code)
    wait_until("the worker has them", lambda: scheduled(plain) == tomorrow, seconds=60)

    # 8. No tables and no app.
    plain.run("manage.py", "migrate", "-v", "0", "celery_ledger", "zero")
    plain.stop_worker()
    without = released(plain, "without", settings, "'demoapp', 'celery_ledger'", "'demoapp'")
    without.run("manage.py", "check")
    without.start_worker()
    without.shell("import sys; assert 'celery_ledger' not in sys.modules")
    called += call(without, "afterwards")
    wait_until("they are done", lambda: len(widgets(without)) >= len(called), seconds=120)
    wait_until("the worker has what is due tomorrow", lambda: scheduled(without) == tomorrow, seconds=60)
    assert widgets(without) == sorted(called)


def has_only(found: dict[str, int], pending: int) -> bool:
    return found == {"pending": pending, "retrying": 0, "published": 0, "running": 0, "dead": 1}


def widgets(project: Project) -> list[str]:
    with project.database.connect() as connection:
        return sorted(name for (name,) in connection.execute("SELECT name FROM demoapp_widget").fetchall())
