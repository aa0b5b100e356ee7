"""
Wagtail's own tasks on the ledger: ``make wagtail``.

Wagtail declares them for any backend; nothing of it is changed. A site made from nothing, on Django 6 and Python 3.12,
saves pages that refer to each other, and Wagtail enqueues a task for each that writes down what it refers to. What came
of it is kept in ``docs/reference/wagtail.md``.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package.conftest import DATABASE_URL, PostgreSQL, Redis
from tests.package.project import Project
from tests.package.told import run_on
from tests.processes import ROOT, wait_until

PAGE = ROOT / "docs" / "reference" / "wagtail.md"
REQUIRED = ["django~=6.0.0", "celery[redis]~=5.6.0", "psycopg[binary]", "wagtail"]
SETTINGS = """
INSTALLED_APPS += [f"wagtail{part}" for part in ("", ".admin", ".documents", ".images", ".search", ".users")]
INSTALLED_APPS += ["django.contrib.postgres", "taggit", "modelcluster", "pages"]
TASKS = {"default": {"BACKEND": "celery_ledger.contrib.django_tasks.LedgerBackend"}}
WAGTAILADMIN_BASE_URL = "http://localhost"
"""
MODELS = """
from django.db import models
from wagtail.models import Page


class Article(Page):
    after = models.ForeignKey(Page, null=True, on_delete=models.SET_NULL, related_name="+")
"""
SAVING = """
from django.db import transaction
from pages.models import Article
from wagtail.models import Page, ReferenceIndex
root = Page.objects.get(depth=1)


def write(count, after):
    return [root.add_child(instance=Article(title="An article", after=after)).pk for _ in range(count)]


"""
TASK = "wagtail.tasks.update_reference_index_task"
#: Articles that are saved while all is well, and while the broker is lost and a worker killed.
ARTICLES = 20

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(900),
    pytest.mark.skipif("PACKAGE_WAGTAIL" not in os.environ, reason="installs Wagtail: make wagtail"),
    pytest.mark.skipif(not DATABASE_URL.startswith("postgres"), reason="pages are saved while workers write"),
]


@pytest.fixture
def python(tmp_path):
    """The interpreter of an environment with Wagtail and the package's wheel; ``PACKAGE_PYTHON`` may name one."""
    if "PACKAGE_PYTHON" in os.environ:
        return Path(os.environ["PACKAGE_PYTHON"])
    found = [*sorted((Path.home() / ".pyenv" / "versions").glob("3.12.*/bin/python3.12")), shutil.which("python3.12")]
    interpreter = tmp_path / "venv" / "bin" / "python"
    subprocess.run([next(filter(None, found)), "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    install = [sys.executable, "-m", "pip", "--python", interpreter, "install", "-q"]
    subprocess.run([*install, *REQUIRED], check=True)
    subprocess.run([*install, "--no-deps", ROOT], check=True)
    return interpreter


@pytest.fixture
def site(python, tmp_path):
    """A site with one kind of page, its relay and its worker."""
    folder = tmp_path / "site"
    folder.mkdir()
    broker, database, site = Redis(tmp_path), PostgreSQL("wagtail"), None
    try:
        site = Project(folder, python, database, broker, guests=())
        (folder / "pages").mkdir()
        (folder / "pages" / "__init__.py").touch()
        (folder / "pages" / "models.py").write_text(MODELS)
        with (folder / "proj" / "settings.py").open("a") as settings:
            settings.write(SETTINGS)
        site.run("manage.py", "makemigrations", "-v", "0", "pages")
        site.run("manage.py", "migrate", "-v", "0")
        site.start_relay()
        yield site
        site.show_logs()
    finally:
        if site is not None:
            site.end()
        database.drop()
        broker.end()


def references(site):
    """How many references of articles Wagtail knows of."""
    return int(site.shell(SAVING + "print(ReferenceIndex.objects.filter(model_path='after').count())"))


def rows(site, status=None):
    where = f"WHERE name = '{TASK}'" + (f" AND status = '{status}'" if status else "")
    return site._rows(f"SELECT COUNT(*) FROM celery_ledger_durabletask {where}")[0][0]


def test_pages_that_are_saved_have_their_references_written_down_by_the_ledger_s_workers(site):
    before = rows(site)  # Of the pages that Wagtail's migrations make.
    undone = "with transaction.atomic():\n    write(5, root)\n    transaction.set_rollback(True)\n"
    site.shell(SAVING + undone)
    assert rows(site) == before

    # None has run yet: what is saved has no reference.
    site.shell(SAVING + f"write({ARTICLES}, root)")
    called = rows(site) - before
    assert called >= ARTICLES
    assert references(site) == 0
    wait_until("news of them is at the broker", lambda: site.broker.depth() > 0)
    site.broker.flush()
    worker = site.start_worker()
    wait_until("all have run", lambda: rows(site, "succeeded") >= called, seconds=180)
    assert references(site) == ARTICLES

    site.shell(SAVING + f"write({ARTICLES}, root)")
    worker.kill(signal.SIGKILL)
    site.start_worker()
    wait_until("all of the others have run", lambda: rows(site, "succeeded") == rows(site), seconds=180)
    assert references(site) == 2 * ARTICLES
    keep(site, rows(site) - before)


def keep(site, tasks):
    """Write what came of it into the page."""
    code = (
        "from importlib.metadata import version as v; import sys;"
        "print(', '.join(f'{n} {v(n.lower())}' for n in ('Wagtail', 'Django', 'Celery')),"
        "'and Python', '.'.join(map(str, sys.version_info[:2])))"
    )
    PAGE.write_text(
        "# Wagtail's tasks on the ledger\n\n"
        "What `make wagtail` found when it was last run. A site made from nothing names\n"
        "`celery_ledger.contrib.django_tasks.LedgerBackend` in `TASKS`, and has a relay and a Celery worker; nothing\n"
        "of Wagtail is changed. For each page that is saved, Wagtail enqueues a task of its own that writes down what\n"
        "the page refers to, the basis of *used by* in its editor.\n\n"
        f"Run on {run_on()}, with {site.run('-c', code).strip()}.\n\n"
        "| | Pages | References, as they should be |\n| --- | --- | --- |\n"
        "| saved in a transaction that was rolled back | 5 | 0 |\n"
        f"| saved, and the broker flushed before a worker was there | {ARTICLES} | {ARTICLES} |\n"
        f"| saved, and the worker killed with `kill -9` at once | {ARTICLES} | {ARTICLES} |\n\n"
        f"Wagtail enqueued {tasks} tasks for that; each has a row that ended as `succeeded`.\n"
    )
