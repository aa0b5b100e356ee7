"""Tasks in their usual forms, in a project without settings: they run as in plain Celery, except after a crash."""

import os
import signal

import pytest

from tests.package.test_two_lines import pytestmark  # noqa: F401 - they are slow for the same reason
from tests.processes import wait_until


def call(project, line):
    return project.shell(f"from habits.tasks import *\nprint({line}.id)")


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("task", ["of_a_library", "not_durable"])
def test_a_task_that_is_not_durable_goes_celery_s_way(project, tmp_path, task):
    path = tmp_path / "notes"
    project.start_worker()
    id = call(project, f"{task}.delay({str(path)!r})")
    wait_until("it is done", lambda: lines_of(path) == ["done", "on_success"][: 2 if task == "of_a_library" else 1])
    assert project.record_of(id) is None


def test_what_fails_and_does_not_ask_for_retries_is_not_retried(project, tmp_path):
    path = tmp_path / "notes"
    project.start_worker()
    id = call(project, f"fails.delay({str(path)!r})")
    wait_until("it has failed", lambda: project.record_of(id) == ("dead", 1))
    assert lines_of(path) == ["tried"]


@pytest.mark.parametrize(
    ("task", "end", "notes"),
    [
        ("fails_and_is_retried", ("dead", 3), ["tried"] * 3),
        ("asks_to_be_retried", ("succeeded", 3), ["retries 0", "retries 1", "retries 2"]),
    ],
)
def test_retries_are_those_that_the_task_asks_for(project, tmp_path, task, end, notes):
    path = tmp_path / "notes"
    project.start_worker()
    id = call(project, f"{task}.delay({str(path)!r})")
    wait_until("it has ended", lambda: project.record_of(id) == end)
    assert lines_of(path) == notes


def test_what_is_not_to_run_twice_is_a_dead_letter_when_its_worker_is_killed(project, tmp_path):
    path = tmp_path / "pipe"
    with project.in_the_middle(path, f"from habits.tasks import *\nprint(not_twice.delay({str(path)!r}).id)") as id:
        project.worker.kill(signal.SIGKILL)
    project.start_worker()
    wait_until("a person is to decide", lambda: project.record_of(id) == ("dead", 1), seconds=120)
    assert not os.path.exists(path)


def test_a_queue_that_nobody_declared_is_there_when_a_task_names_it(project):
    call(project, "in_a_queue_of_its_own.delay()")
    wait_until("its message is at the broker", lambda: project.broker.depth("reports") > 0)
    other = call(project, "in_a_queue_of_its_own.apply_async(queue='more_reports')")
    wait_until("and the other's", lambda: project.broker.depth("more_reports") > 0)
    assert project.record_of(other) == ("published", 0)
