"""The example is what ``django-admin startproject`` makes, an application, and the two lines."""

import difflib

from django.core.management import call_command

from tests.package.project import EXAMPLE

LINES = {
    "proj/settings.py": [
        'INSTALLED_APPS += ["demoapp"]',
        'CELERY_BROKER_URL = "redis://localhost:6379/0"',
        'INSTALLED_APPS += ["celery_ledger"]',
    ],
    "manage.py": [],
    "proj/asgi.py": [],
    "proj/urls.py": [],
    "proj/wsgi.py": [],
}


def test_the_example_adds_its_lines_to_what_django_makes_and_changes_none(tmp_path):
    call_command("startproject", "proj", tmp_path)
    for name, lines in LINES.items():
        made, ours = ((folder / name).read_text().splitlines() for folder in (tmp_path, EXAMPLE))
        differences = list(difflib.ndiff(made, ours))
        gone = [line[2:] for line in differences if line.startswith("- ")]
        added = [line[2:] for line in differences if line.startswith("+ ")]
        secrets = [line for line in gone + added if line.startswith("SECRET_KEY")]
        assert [line for line in gone if line not in secrets] == []
        assert [line for line in added if line not in secrets and line and not line.startswith("#")] == lines


def test_its_celery_app_differs_from_the_tutorials_by_one_argument():
    assert 'app = Celery("proj", task_cls="celery_ledger:Task")' in (EXAMPLE / "proj" / "celery.py").read_text()
