"""A failure is what Celery says it is; a project that wants more says so in a class of its own."""

import os
import signal

import pytest

from tests.package.test_habits import call, lines_of
from tests.package.test_two_lines import pytestmark  # noqa: F401 - they are slow for the same reason
from tests.processes import wait_until

ENDS = ("task_postrun SUCCESS", "task_postrun FAILURE")


def test_retries_are_those_of_plain_celery(project, tmp_path):
    project.start_worker("proj", "-c", "1")  # Or the next attempt may begin before the last one has told of its end.
    bodies = project.shell(
        f"""
from habits import retrying
for body in retrying.BODIES:
    for way in ("durable", "plain"):
        getattr(retrying, f"{{body}}_{{way}}").delay(f"{tmp_path}/{{body}}.{{way}}")
print(*retrying.BODIES)
"""
    ).split()
    notes = {(body, way): tmp_path / f"{body}.{way}" for body in bodies for way in ("durable", "plain")}
    assert len(bodies) > 10

    def running():
        return [each for each, path in notes.items() if (lines_of(path) or [""])[-1] not in ENDS]

    try:
        wait_until("each has ended", lambda: not running(), seconds=120)
    except AssertionError:
        raise AssertionError(f"These have not ended: {running()}") from None
    said = {each: lines_of(path) for each, path in notes.items()}
    differences = {body: said[body, "durable"] for body in bodies if said[body, "durable"] != said[body, "plain"]}
    assert differences == {body: said[body, "plain"] for body in differences}
    assert [line for line in said["fails", "durable"] if line.startswith("body")] == ["body retries=0"]
    assert "body retries=5" in said["goes_on_for_long", "durable"]
    assert said["gives_up_by_itself", "durable"][-3:] == ["gave up", "task_success", "task_postrun SUCCESS"]


def test_a_permanent_error_is_not_retried_whatever_else_is(project, tmp_path):
    path = tmp_path / "notes"
    project.start_worker()
    id = project.shell(f"from habits.retrying import *\nprint(is_permanent.delay({str(path)!r}).id)")
    wait_until("a person is to decide", lambda: project.record_of(id) == ("dead", 1))
    assert lines_of(path) == ["body"]


@pytest.mark.parametrize(
    ("task", "notes", "kept"),
    [
        ("outside", ["body in_transaction=False"], 1),
        ("inside", ["body in_transaction=True"], 0),
        ("inside_and_retried", ["body in_transaction=True"] * 3, 0),
        ("inside_and_permanent", ["body"], 0),
    ],
)
def test_what_a_body_wrote_before_it_failed_is_kept_unless_the_task_is_transactional(
    project, tmp_path, task, notes, kept
):
    path = tmp_path / "notes"
    project.start_worker()
    id = project.shell(f"from habits.inside import *\nprint({task}.delay({str(path)!r}, name={task!r}).id)")
    wait_until("it has failed", lambda: project.record_of(id) == ("dead", len(notes)))
    assert lines_of(path) == notes
    assert project.shell(f"print(Widget.objects.filter(name={task!r}).count())") == str(kept)


def test_what_is_not_to_run_twice_is_a_dead_letter_when_its_child_is_killed(project, tmp_path):
    path = tmp_path / "pipe"
    with project.in_the_middle(path, f"from habits.tasks import *\nprint(not_twice.delay({str(path)!r}).id)") as id:
        for child in project.worker.children():
            os.kill(child, signal.SIGKILL)
    wait_until("a person is to decide", lambda: project.record_of(id) == ("dead", 1))
    said = project.shell(
        f"from celery_ledger.models import DurableTask\nprint(DurableTask.objects.get(id={id!r}).last_error)"
    )
    assert "SIGKILL" in said
    other = call(project, f"not_durable.delay({str(tmp_path / 'other')!r})")
    wait_until("the next child works", lambda: lines_of(tmp_path / "other") == ["done"])
    assert project.record_of(id) == ("dead", 1), other
    assert not path.exists()
