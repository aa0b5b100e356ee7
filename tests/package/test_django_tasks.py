"""Django's tasks as documented, in a new project, with a worker that is killed."""

import json
import re
import signal

import pytest

from tests.package.test_two_lines import pytestmark  # noqa: F401 - they are slow for the same reason
from tests.processes import ROOT, wait_until

PAGE = ROOT / "docs" / "guide" / "django-tasks.md"
#: What the page's example does not need: a task that is in the middle of something for a while.
SLOW = """

@task
def export(path):
    with open(path, "w") as file:
        file.write("line\\n" * 20_000)
    return "exported"
"""
LOOK = "import json; from parcels.{}\nprint(json.dumps({}))"


def write_the_application(project):
    files = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL))
    with (project.folder / "proj" / "settings.py").open("a") as settings:
        settings.write(files.pop("proj/settings.py") + 'INSTALLED_APPS += ["parcels"]\n')
    folder = project.folder / "parcels"
    folder.mkdir()
    (folder / "__init__.py").touch()
    files["parcels/tasks.py"] += SLOW
    for name, code in files.items():
        (project.folder / name).write_text(code)
    project.run("manage.py", "makemigrations", "-v", "0", "parcels")
    project.run("manage.py", "migrate", "-v", "0")


def look(project, where, what):
    return json.loads(project.shell(LOOK.format(where, what)))


def test_the_page_s_example_runs_and_a_worker_that_is_killed_has_its_task_run_again(project, tmp_path):
    if project.broker.extra != "redis":
        pytest.skip("which broker carries the news has no say in it")
    write_the_application(project)
    project.stop_worker()  # It has not heard of the new application.
    project.start_worker()
    label, told = look(project, "sending import send", "send('12 Harbour Street')")
    wait_until("both are done", lambda: project.has_succeeded(label) and project.has_succeeded(told))
    assert look(project, "looking import label_of", f"label_of({label!r})") == "To 12 Harbour Street"
    value = f"tell_the_carrier.get_result({told!r}).return_value"
    assert look(project, "tasks import tell_the_carrier", value) == {"parcel": 1, "attempt": 1}
    path = tmp_path / "export.txt"
    asking = f"from parcels.tasks import export\nprint(export.enqueue({str(path)!r}).id)"
    with project.in_the_middle(path, asking) as id:
        project.worker.kill(signal.SIGKILL)
    project.start_worker()
    wait_until("another worker has done it", lambda: project.has_succeeded(id, attempts=2), seconds=120)
    said = f"(lambda r: [r.status, r.attempts, r.return_value])(export.get_result({id!r}))"
    assert look(project, "tasks import export", said) == ["SUCCESSFUL", 2, "exported"]
