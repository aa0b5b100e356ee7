"""A project whose Celery app is not imported: it is found, or the error says what to do; the package creates none."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package.project import ENVIRONMENT, EXAMPLE
from tests.processes import ROOT

NO_APP_YET = """
import django
from celery import _state

{first}
import celery_ledger, celery_ledger.conf, celery_ledger.install
celery_ledger.Task
assert _state.default_app is None, _state.default_app
assert not list(_state._get_active_apps())
print("none")
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """The example, but that its package does not import its app."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "proj" / "__init__.py").write_text("")
    return tmp_path


def run(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("first", ["", "django.setup()"], ids=["imported", "installed in a project"])
def test_the_package_makes_no_app_and_takes_no_current_one(project, first):
    settings = {"DJANGO_SETTINGS_MODULE": "proj.settings"} if first else {}
    done = run(project, "-W", "ignore", "-c", NO_APP_YET.format(first=first), **settings)
    assert (done.stdout, done.stderr) == ("none\n", "")


def test_the_projects_app_is_every_threads(project):
    code = """
import django
django.setup()
from concurrent.futures import ThreadPoolExecutor
from celery import current_app
from celery_ledger.project import find_app
assert find_app().main == "proj"
with ThreadPoolExecutor() as threads:
    print(threads.submit(lambda: current_app.main).result(), threads.submit(find_app).result().main)
"""
    done = run(project, "-c", code, DJANGO_SETTINGS_MODULE="proj.settings")
    assert done.stdout == "proj proj\n", done.stderr


def test_tasks_beside_views_and_template_tags_are_found_as_a_worker_finds_them(project):
    task = "from celery import shared_task\n\n\n@shared_task\ndef {}():\n    pass\n"
    tags = project / "demoapp" / "templatetags"
    tags.mkdir()
    (tags / "__init__.py").write_text("")
    tag = "\n\nfrom django import template\n\nregister = template.Library()\n"
    (tags / "demo_tags.py").write_text(task.format("of_a_tag") + tag)
    (project / "demoapp" / "views.py").write_text(task.format("of_a_view"))
    with (project / "proj" / "urls.py").open("a") as urls:
        urls.write("\n\nimport demoapp.views\n")
    done = run(project, "manage.py", "ledger_adopt", "--json")
    assert done.returncode == 0, done.stderr
    found = {remark["about"] for remark in json.loads(done.stdout) if remark["topic"] == "inside"}
    assert {"demoapp.views.of_a_view", "demoapp.templatetags.demo_tags.of_a_tag"} <= found


def test_a_fresh_project_passes_the_checks(project):
    done = run(project, "manage.py", "check", "--database", "default")
    assert done.returncode == 0, done.stderr
    said = [line.split(")")[0].split("(")[1] for line in done.stderr.splitlines() if line.startswith("?: (")]
    assert said == ["celery_ledger.W012"], done.stderr


def test_without_an_app_the_relay_says_what_to_do(project):
    (project / "proj" / "celery.py").rename(project / "proj" / "elsewhere.py")
    done = run(project, "manage.py", "relay")
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if "CommandError" in line]
    assert "It would be in proj.celery" in line
    assert "import it in the __init__.py" in line
    assert "celery_ledger.W001" in run(project, "manage.py", "check").stderr


def test_nothing_in_the_package_speaks_of_a_shop():
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "celery_ledger").rglob("*.py"))
        for line in path.read_text().splitlines()
        if re.search(r"shop|\.order:|REDIS_URL", line, flags=re.IGNORECASE)
    ]
    assert found == []
