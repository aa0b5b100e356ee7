"""
A project made from nothing adopts the package in two lines, and its tasks survive.

The tasks are the example's, as Celery's tutorial writes them. Nothing is set but the database and the broker.
"""

import os
import signal

import pytest

from tests.processes import wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
]

#: Lines that are more than a pipe holds, so that the task which writes them stays in the middle of it.
MANY = 6000


def test_rolled_back_there_is_no_task_and_committed_it_is_done(project):
    project.start_worker()
    said = project.shell(
        """
widgets = [Widget.objects.create(name="as it was") for _ in range(2)]
try:
    with transaction.atomic():
        rolled_back = rename_widget.delay(widgets[0].id, "renamed")
        raise ValueError
except ValueError:
    pass
with transaction.atomic():
    committed = rename_widget.delay(widgets[1].id, "renamed")
print(widgets[0].id, rolled_back.id, widgets[1].id, committed.id)
"""
    )
    lost, rolled_back, kept, committed = said.split()
    wait_until("the committed task is done", lambda: project.has_succeeded(committed))
    assert project.name_of(kept) == "renamed"
    assert project.name_of(lost) == "as it was"
    assert project.record_of(rolled_back) is None


def test_outside_of_transactions_a_call_is_recorded_at_once(project):
    project.start_worker()
    call = project.shell("print(add.delay(2, 2).id)")
    wait_until("it is done", lambda: project.has_succeeded(call))


def test_a_worker_that_is_killed_inside_a_task_has_it_done_by_another(project, tmp_path):
    path = tmp_path / "widgets.csv"
    with in_the_middle_of_an_export(project, path) as call:
        project.worker.kill(signal.SIGKILL)
    project.start_worker()
    wait_until("another worker has done it", lambda: project.has_succeeded(call, attempts=2), seconds=120)
    assert_is_whole(path)


def test_a_child_that_is_killed_inside_a_task_has_it_done_by_the_next(project, tmp_path):
    path = tmp_path / "widgets.csv"
    with in_the_middle_of_an_export(project, path) as call:
        for child in project.worker.children():
            os.kill(child, signal.SIGKILL)
    wait_until("the next child has done it", lambda: project.has_succeeded(call, attempts=2), seconds=120)
    assert_is_whole(path)
    assert project.worker.says("A process was lost with a message of demoapp.tasks.export_widgets")


def test_what_the_broker_lost_is_done(project):
    project.stop_worker()
    widget, call = project.shell(
        """
widget = Widget.objects.create(name="as it was")
print(widget.id, rename_widget.delay(widget.id, "renamed").id)
"""
    ).split()
    wait_until("the broker has its message", lambda: project.broker.depth() > 0)
    project.broker.flush()
    assert project.broker.depth() == 0
    assert project.record_of(call) == ("published", 0)
    project.start_worker()
    wait_until("it is done", lambda: project.has_succeeded(call), seconds=120)
    assert project.name_of(widget) == "renamed"


def test_a_worker_takes_no_more_messages_than_its_children_run(project):
    project.start_worker("proj", "-c", "2")
    said = project.shell(
        """
from proj.celery import app
print(*(each["prefetch_count"] for each in app.control.inspect(timeout=10).stats().values()))
"""
    )
    assert said == "2"


def test_the_doctor_misses_a_worker_and_finds_the_rest_well(project):
    project.stop_worker()

    def what_is_wrong():
        return project.shell(
            """
from celery_ledger.desk import doctor
for found in doctor.examine():
    if not found.is_well and found.what != "settings":
        print(f"{found.what}: {found.how}")
"""
        ).splitlines()

    wait_until("it misses the worker", lambda: "workers: no worker is running" in what_is_wrong())
    well = {"migrations", "broker", "relay", "clock", "tasks", "schedules", "connections", "stuck tasks"}
    assert not well & {line.partition(":")[0] for line in what_is_wrong()}


def test_the_package_brings_nothing_that_it_can_do_without(project):
    found = project.shell(
        """
from importlib.metadata import distributions
print(*sorted(each.name.lower() for each in distributions()))
"""
    ).split()
    optional = {"django-celery-beat", "django-celery-results", "prometheus-client", "djangorestframework", "redis"}
    assert optional & set(found) == ({"redis"} if project.broker.extra == "redis" else set())
    assert "celery-ledger" in found


def in_the_middle_of_an_export(project, path):
    """Have a worker be in the middle of writing widgets to ``path``."""
    return project.in_the_middle(
        path,
        f"""
Widget.objects.bulk_create(Widget(name="one of many") for _ in range({MANY} - Widget.objects.count()))
print(export_widgets.delay({str(path)!r}).id)
""",
    )


def assert_is_whole(path):
    assert len(path.read_text().splitlines()) >= MANY
