"""
A project goes from an earlier version to this one with work in flight: ``make upgrade BEFORE=a-commit``.

Each version is the wheel of its commit, in an environment of its own, so that processes of both run at once on the
same tables, as they do while machines are replaced one by one. What came of it is kept in
``docs/reference/upgrades.md``.
"""

import io
import os
import signal
import subprocess
import sys
import tarfile

import pytest

from tests.package.conftest import DATABASE_URL, PostgreSQL, Redis, SQLite
from tests.package.project import Project
from tests.package.told import keep_row, run_on
from tests.processes import ROOT, wait_until

BEFORE = os.environ.get("PACKAGE_BEFORE", "")
PAGE = ROOT / "docs" / "reference" / "upgrades.md"
HEADER = """\
| From | Database | Run on | Calls | Lost | Attempted again |
| --- | --- | --- | --- | --- | --- |
"""
#: Calls made by the old code before its tables are migrated, and after.
CALLS = 200

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not BEFORE, reason="runs where an earlier version is named: make upgrade BEFORE=a-commit"),
]


@pytest.fixture
def versions(make_environment, tmp_path):
    """The interpreters of two environments: one with the earlier version, one with this."""
    on_postgresql = DATABASE_URL.startswith("postgres")
    drivers = PostgreSQL.driver if on_postgresql else SQLite.driver
    source = tmp_path / "before"
    packed = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(source, filter="data")
    before = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "-q"]
    wheels = tmp_path / "wheels"
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, source], check=True)
    [wheel] = wheels.glob("celery_ledger-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    package = f"celery-ledger[redis] @ {wheel.as_uri()}"
    subprocess.run([*pip, "--python", before, "install", package, *drivers], check=True)
    return before, make_environment("redis", *drivers)


@pytest.fixture
def project(versions, tmp_path):
    """A project on the earlier version, with its relay and its worker."""
    (tmp_path / "project").mkdir()
    broker = Redis(tmp_path)
    database = PostgreSQL("upgrade") if DATABASE_URL.startswith("postgres") else SQLite(tmp_path / "project")
    project = None
    try:
        project = Project(tmp_path / "project", versions[0], database, broker, guests=())
        project.run("manage.py", "migrate")
        yield project
        project.show_logs()
    finally:
        if project is not None:
            project.end()
        database.drop()
        broker.end()


def test_work_in_flight_is_done_once_across_an_upgrade(project, versions, tmp_path):
    before, after = versions
    old_relay = project.start_relay()
    path = tmp_path / "widgets.csv"
    call_some = f"""
widgets = [Widget.objects.create(name="as it was") for _ in range({CALLS})]
for number, widget in enumerate(widgets):
    call = rename_widget.apply_async((widget.id, "renamed"), countdown=0 if number % 4 else 20)
    print(widget.id, call.id)
"""
    export = f"""
Widget.objects.bulk_create(Widget(name="one of many") for _ in range(6000))
print(export_widgets.delay({str(path)!r}).id)
"""
    with project.in_the_middle(path, export) as in_the_middle:
        old_worker = project.worker
        calls = project.shell(call_some).splitlines()

        project.python = after
        project.run("manage.py", "migrate")
        assert old_relay.is_alive
        assert old_worker.is_alive

        # Machines of the old version go on calling.
        project.python = before
        calls += project.shell(call_some).splitlines()

        project.python = after
        project.worker, project.worker_is = None, ()
        project.start_relay()
        worker = project.start_worker()
        calls += project.shell(call_some).splitlines()
        old_worker.kill(signal.SIGKILL)
    old_relay.stop()

    pairs = [line.split() for line in calls]
    wait_until(
        "everything called is done",
        lambda: all(project.record_of(call)[0] == "succeeded" for _, call in pairs),
        seconds=180,
    )
    wait_until(
        "what was under way is done again", lambda: project.has_succeeded(in_the_middle, attempts=2), seconds=180
    )
    assert len(path.read_text().splitlines()) >= 6000
    lost = [widget for widget, _ in pairs if project.name_of(widget) != "renamed"]
    again = [call for _, call in pairs if project.record_of(call)[1] != 1]
    keep(f"{len(pairs) + 1} | {len(lost)} | {len(again) + 1} |")
    assert worker.is_alive
    assert not lost
    assert len(again) <= 1, "One was in the hands of the other child of the old worker, at the most."


def keep(figures):
    """Write a row of the page, in place of the one that is of the same commit and database."""
    begin = f"| {BEFORE} | {'PostgreSQL' if DATABASE_URL.startswith('postgres') else 'SQLite'} |"
    keep_row(PAGE, HEADER, begin, f"{begin} {run_on()} | {figures}")
