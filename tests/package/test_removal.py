"""
The package is taken out of a project again, with work still in its tables, in the order that the guide gives.

The releases of one project have a folder each: with the package, with the package on another broker, without durable
tasks, and without the package. What is waiting, canvases included, what is called meanwhile by either release, and what
is due tomorrow is done once. The broker is a RabbitMQ where the database is PostgreSQL, and a Redis otherwise.
"""

import copy
import json
import re
import shutil

import pytest

from tests.own_rabbitmq import find_server
from tests.package.conftest import DATABASE_URL, PostgreSQL, RabbitMQ, Redis, SQLite
from tests.package.project import Project
from tests.processes import ROOT, wait_until

GUIDE = ROOT / "docs" / "guide" / "adding-it-to-your-project.md"
#: Tasks whose effects can be counted, and one that fails for good.
TASKS = """

@shared_task(transactional=True, label="adds a widget")
def add_widget(name):
    Widget.objects.create(name=name)


@shared_task(transactional=True, batch_size=10)
def add_widgets(names):
    for name in names:
        Widget.objects.create(name=name)


@shared_task
def fail(name):
    raise LookupError(name)
"""
#: What the release without durable tasks has in its place: options that Celery ignores, but no list.
IN_PLACE_OF_A_LIST = ("names):\n    for name in names:\n    ", "name):\n")
WITHOUT_OPTIONS = {'(transactional=True, label="adds a widget")': "", "(transactional=True, batch_size=10)": ""}
CANVAS = """
from celery import chain, chord
chain(add_widget.si("chain 1"), add_widgets.si("chain 2"), add_widget.si("chain 3")).delay()
chord([add_widget.si(f"header {number}") for number in range(3)], add_widget.si("body")).delay()
chain(add_widget.si("tomorrow's chain 1"), add_widget.si("tomorrow's chain 2")).apply_async(countdown=86400)
"""
IN_CANVASES = ["chain 1", "chain 2", "chain 3", "header 0", "header 1", "header 2", "body"]
CALLS = 20
TOMORROW = 5

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]


@pytest.fixture
def project(make_environment, tmp_path):
    """A project that has the package, with its relay and its worker."""
    (tmp_path / "durable").mkdir()
    on_postgresql = DATABASE_URL.startswith("postgres")
    broker = (RabbitMQ if on_postgresql and find_server() else Redis)(tmp_path)
    database = PostgreSQL("removal") if on_postgresql else SQLite(tmp_path)
    project = None
    try:
        python = make_environment(broker.extra, *database.driver)
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


def released(project: Project, name: str, changes: dict[str, dict[str, str]]) -> Project:
    """Return another release of the project: a copy with changes to its files, which has processes of its own."""
    other = copy.copy(project)
    other.folder = project.folder.with_name(name)
    other.worker, other.worker_is = None, ()
    shutil.copytree(project.folder, other.folder)
    for file, replaced in changes.items():
        text = (other.folder / file).read_text()
        for before, after in replaced.items():
            assert text.count(before) == 1
            text = text.replace(before, after)
        (other.folder / file).write_text(text)
    return other


def call(project: Project, prefix: str, *, count: int = CALLS, countdown: int = 0) -> list[str]:
    """Call two tasks in turn, and return the names of what they are to make."""
    names = [f"{prefix} {number:02}" for number in range(count)]
    code = f"for name, task in zip({names!r}, [add_widget, add_widgets] * {count}):"
    project.shell(f"{code} task.apply_async([name], countdown={countdown})")
    return names


def waiting(project: Project) -> dict[str, int]:
    """Return the sums of what `outbox stats` says."""
    queues = json.loads(project.run("manage.py", "outbox", "stats", "--json"))
    return {key: sum(queue[key] for queue in queues) for key in ("pending", "retrying", "published", "running", "dead")}


def scheduled(project: Project) -> list[str]:
    """Return the first argument of each task that the workers of plain Celery keep for later."""
    code = "import json; from proj.celery import app; print(json.dumps(app.control.inspect(timeout=2).scheduled()))"
    found = json.loads(project.shell(code)) or {}
    return sorted(entry["request"]["args"][0] for entries in found.values() for entry in entries)


def test_nothing_is_lost_or_doubled_when_the_package_is_taken_out_by_the_guide(project):
    relay = project.start_relay()
    project.start_worker()
    called = call(project, "before")
    wait_until("they are done", lambda: len(widgets(project)) == len(called), seconds=120)

    # 1. No relay: what is called waits in the table, and nothing at the broker.
    relay.stop()
    called += call(project, "waiting") + call(project, "soon", countdown=10) + IN_CANVASES
    tomorrow = call(project, "tomorrow", count=TOMORROW, countdown=86_400)
    project.shell(f"fail.delay('in vain')\n{CANVAS}")
    wait_until("the queue is empty", lambda: not project.broker.depth())
    found = waiting(project)
    assert found["pending"] > 2 * CALLS + TOMORROW
    assert found["published"] == found["running"] == 0

    # 2. A relay and a worker on another broker.
    settings, tasks = "proj/settings.py", "demoapp/tasks.py"
    last = released(project, "last", {settings: {repr(project.broker.url): repr(project.broker.other_url())}})
    last_relay = last.start_relay()
    last.start_worker()

    # 3. Without task_cls, and no task takes a list: the workers first, then the processes that call.
    durable = {', task_cls="celery_ledger:Task"': ""}
    plain = released(project, "plain", {"proj/celery.py": durable, tasks: dict([IN_PLACE_OF_A_LIST])})
    project.stop_worker()
    plain.start_worker()
    called += call(project, "by the old release") + call(plain, "by the new release")

    # 4. and 5. The table becomes empty, but for what is due tomorrow and the dead letter.
    wait_until("the table is empty", lambda: has_only(waiting(plain), TOMORROW + 1), seconds=180)
    assert "demoapp.tasks.fail" in plain.run("manage.py", "outbox", "dead")
    plain.run("manage.py", "outbox", "discard", "--all")

    # 6. What is due tomorrow is called again; the code says what it has done, and has nothing to do a second time.
    last_relay.stop()
    last.stop_worker()
    [code] = re.findall(r"```python\n(.*?)```", GUIDE.read_text().partition("## Removing it")[2], re.DOTALL)
    code = re.sub(r"^ {3}", "", code, flags=re.MULTILINE)
    said = plain.shell(code)
    assert plain.shell(code) == said
    wait_until("the worker has them", lambda: scheduled(plain) == tomorrow, seconds=60)
    [left] = re.findall(r"^left in the table: (\S+) demoapp.tasks.add_widget$", said, re.MULTILINE)
    last_relay = last.start_relay()
    last.start_worker()
    last.run("manage.py", "outbox", "run-now", left)
    called += ["tomorrow's chain 1", "tomorrow's chain 2"]
    wait_until("the chain is done", lambda: len(widgets(last)) == len(called), seconds=60)
    last_relay.stop()
    last.stop_worker()

    # 7. and 8. No options, no tables and no app.
    plain.run("manage.py", "migrate", "-v", "0", "celery_ledger", "zero")
    plain.stop_worker()
    without = released(
        plain, "without", {settings: {"'demoapp', 'celery_ledger'": "'demoapp'"}, tasks: WITHOUT_OPTIONS}
    )
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
