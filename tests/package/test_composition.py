"""Projects with their own classes, boot steps and plain tasks: all of it keeps working."""

import json
import os
import signal

import pytest

from tests.package.test_habits import lines_of
from tests.package.test_two_lines import pytestmark  # noqa: F401 - they are slow for the same reason
from tests.processes import wait_until

OWN = "from compositions.own import *\n"


def notes_of(project):
    return lines_of(project.folder / "own-notes")


@pytest.fixture
def own_worker(project):
    return project.start_worker("compositions.own")


class TestOwnClasses:
    def test_a_class_of_tasks_and_its_request_are_the_projects(self, project, own_worker, tmp_path):
        id = project.shell(f"{OWN}print(writes.delay({str(tmp_path / 'path')!r}).id)")
        wait_until("it is done", lambda: project.has_succeeded(id))
        assert lines_of(tmp_path / "path") == ["done"]
        assert "task compositions.own.writes" in notes_of(project)
        assert "request compositions.own.writes" in notes_of(project)

    def test_a_lost_child_is_counted_through_a_request_of_the_projects(self, project, own_worker, tmp_path):
        path = tmp_path / "pipe"
        with project.in_the_middle(
            path, f"{OWN}print(writes.delay({str(path)!r}, lines=50_000).id)", worker="compositions.own"
        ) as id:
            for child in own_worker.children():
                os.kill(child, signal.SIGKILL)
        wait_until("the next child has done it", lambda: project.has_succeeded(id, attempts=2))
        assert own_worker.says("A process was lost with a message of compositions.own.writes")

    @pytest.mark.parametrize("what", ["pool", "consumer", "worker step", "consumer step"])
    def test_what_the_project_adds_to_its_worker_is_there(self, project, own_worker, what):
        wait_until("it has been made", lambda: what in notes_of(project), seconds=10)

    def test_what_we_add_to_it_is_there_too(self, project, own_worker):
        said = project.shell(
            """
from celery_ledger.models import Heartbeat
print(*Heartbeat.objects.filter(kind="worker").values_list("process", flat=True))
"""
        )
        assert said

    def test_a_setting_of_the_projects_wins_over_our_default(self, project):
        said = project.shell(
            f"{OWN}app.finalize()\nprint(app.conf.worker_prefetch_multiplier, app.conf.worker_lost_wait)"
        )
        assert said == "3 0.5"

    def test_control_is_the_projects_and_revokes_rows(self, project):
        said = project.shell(
            f"""{OWN}
call = waits.delay()
print(app.control.greet())
app.control.revoke(call.id)
print(call.id)
"""
        ).splitlines()
        assert said[0] == "Good day."
        assert project.record_of(said[1])[0] == "cancelled"


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_durable_tasks_run_in_other_pools(project, tmp_path, pool):
    worker = project.start_worker("proj", "-P", pool)
    paths = [tmp_path / str(number) for number in range(3)]
    ids = project.shell(
        "from habits.tasks import *\nfrom habits.inside import *\n"
        f"print(*(not_twice.delay(path).id for path in {[str(path) for path in paths]!r}), "
        f"inside.delay({str(tmp_path / 'inside')!r}, name={pool!r}).id, "
        f"asks_to_be_retried.delay({str(tmp_path / 'retried')!r}).id, "
        f"hands_on.delay({str(tmp_path / 'handed on')!r}).id)"
    ).split()
    for id in ids[:3]:
        wait_until("it is done", lambda call=id: project.has_succeeded(call))
    wait_until("it has failed", lambda: project.record_of(ids[3]) == ("dead", 1))
    wait_until("it was retried", lambda: project.has_succeeded(ids[4], attempts=3))
    wait_until("what a body called is done", lambda: lines_of(tmp_path / "handed on"))
    assert lines_of(tmp_path / "inside") == ["body in_transaction=True"]
    worker.kill(signal.SIGKILL)
    id = project.shell(f"from habits.tasks import *\nprint(not_twice.delay({str(tmp_path / 'next')!r}).id)")
    project.start_worker()
    wait_until("another kind of worker does it", lambda: project.has_succeeded(id))


def test_a_worker_without_autodiscovery_and_checks_runs_messages_of_several_tasks(project, tmp_path):
    project.stop_worker()
    ids = project.shell(
        f"""
from habits.answers import makes_widget
from habits.tasks import hands_on
with transaction.atomic():
    calls = [call for number in range(5) for call in (
        makes_widget.delay(str(number)), hands_on.delay({str(tmp_path)!r} + f"/{{number}}")
    )]
print(*(call.id for call in calls))
"""
    ).split()
    worker = project.start(
        "worker", "-m", "celery", "-A", "compositions.listed", "--skip-checks", "worker", "-l", "info"
    )
    try:
        for id in ids:
            wait_until("it is done", lambda call=id: project.has_succeeded(call, attempts=1))
    finally:
        worker.stop(seconds=60)
    assert worker.says(". celery_ledger.tasks.run_mixed")
    assert not worker.says("left to a worker that knows them")


def test_a_pool_of_green_threads_is_refused_with_a_line(project):
    project.stop_worker()
    worker = project.start("worker", "-m", "celery", "-A", "compositions.green", "worker")
    wait_until("it has ended", lambda: not worker.is_alive)
    assert worker.says("Durable tasks do not run in the pool")
    assert worker.says("Use prefork (the default), threads or solo.")


@pytest.mark.parametrize("app", ["mostly_ours", "mostly_theirs"])
class TestBeside:
    """Tasks with ``durable=False`` and of others' classes, beside durable ones in one worker."""

    def ask(self, project, app, code):
        project.start_worker(f"compositions.{app}", "-c", "1")
        said = project.shell(
            f"""
import json
from celery import chain, group
from compositions.{app} import app
app.set_current()
tasks = {{name.removeprefix("beside."): app.tasks[name] for name in app.tasks if name.startswith("beside.")}}
{code}
"""
        )
        return json.loads(said)

    def test_arguments_headers_and_results_are_celerys(self, project, app):
        said = self.ask(
            project,
            app,
            """
call = tasks["describe"].apply_async((1, "two"), {"three": [3.0]}, headers={"colour": "blue"})
print(json.dumps([call.get(timeout=60), call.state]))
""",
        )
        assert said == [{"args": [1, "two"], "kwargs": {"three": [3.0]}, "colour": "blue", "ignore": False}, "SUCCESS"]

    def test_times_retries_failures_and_canvas_are_celerys(self, project, app):
        said = self.ask(
            project,
            app,
            """
add, not_durable = tasks["add"], tasks["not_durable"]
calls = [
    not_durable.delay(6, 7),
    not_durable.apply_async((6, 7), countdown=0.3),
    tasks["retried"].delay(),
    chain(add.s(1, 2), not_durable.s(3), add.s(4)).apply_async(),
    add.apply_async((1, 2), link=not_durable.s(2)),
]
values = [call.get(timeout=60) for call in calls]
failed = tasks["fails"].delay()
values.append(repr(failed.get(timeout=60, propagate=False)))
from celery_ledger.models import DurableTask
ids = [call.id for call in calls] + [failed.id]
print(json.dumps([values, failed.state, DurableTask.objects.filter(id__in=ids).count()]))
""",
        )
        assert said == [[42, 42, 2, 13, 3, "OSError('It cannot be done.')"], "FAILURE", 0]

    def test_they_are_steps_and_members_of_one_canvas_five_deep(self, project, app):
        said = self.ask(
            project,
            app,
            """
from celery import chord
from celery_ledger.models import Chord, DurableTask
from django.db import transaction
twice, total = tasks["not_durable"].s(2), tasks["durable_total"]
known = list(DurableTask.objects.values_list("id", flat=True))
rows = DurableTask.objects.filter(name="beside.durable_total").exclude(id__in=known)
canvas = total.s([1, 1])
for _ in range(5):
    canvas = chord([chain(canvas, twice), total.s([1, 1]), tasks["not_durable"].s(1, 1)], total.s())
with transaction.atomic():
    chain(canvas.clone(), twice).delay()
    transaction.set_rollback(True)
left = rows.count()
value = chain(canvas, twice).delay().get(timeout=90)
states = sorted(set(rows.values_list("status", flat=True)))
print(json.dumps([left, value, rows.count(), states, Chord.objects.exclude(missing=0).count()]))
""",
        )
        assert said == [0, 314, 11, ["succeeded"], 0]

    def test_one_that_is_revoked_does_not_run_and_its_result_says_so(self, project, app, tmp_path):
        path = tmp_path / "path"
        said = self.ask(
            project,
            app,
            f"""
plain = tasks["not_durable"].apply_async((6, 7), countdown=1)
durable = tasks["durable"].apply_async(({str(path)!r},), countdown=1)
app.control.revoke([plain.id, durable.id])
print(json.dumps([repr(plain.get(timeout=60, propagate=False)), durable.id]))
""",
        )
        assert said[0] == "TaskRevokedError('revoked')"
        assert project.record_of(said[1])[0] == "cancelled"

    def test_durable_ones_are_rows(self, project, app, tmp_path):
        path = tmp_path / "path"
        id = self.ask(project, app, f"print(json.dumps(tasks['durable'].delay({str(path)!r}, value=1).id))")
        wait_until("it is done", lambda: project.has_succeeded(id))
        assert lines_of(path) == ["1"]

    def test_connections_are_closed_around_what_is_celerys_and_kept_for_rows(self, project, app, tmp_path):
        path = tmp_path / "path"

        def run_rows(task):
            before = len(lines_of(path))
            for number in range(2):
                self.ask(project, app, f"tasks[{task!r}].delay({str(path)!r}); print(1)")
                wait_until("it is done", lambda number=number: len(lines_of(path)) == before + number + 1)
            first, second = lines_of(path)[-2:]
            return int(first), int(second)

        for task in ("durable", "durable_inside"):
            first, second = run_rows(task)
            assert first == second
        for task in ("plain_connections", "foreign_connections"):
            before = second
            said = self.ask(
                project, app, f"print(json.dumps([tasks[{task!r}].delay().get(timeout=60) for _ in range(2)]))"
            )
            assert before < said[0] < said[1]  # Canaries may have opened some as well.
            second = said[-1]
        first, second = run_rows("durable")
        assert said[-1] < first == second
