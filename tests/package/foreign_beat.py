"""
django-celery-beat's own tests, plain and alongside the package: ``make foreign-beat``.

They come with the source distribution of the version that is installed here, and run in an environment and a folder
of their own, under ``var/``; nothing of them is kept. Beside the package means: ``celery_ledger`` and
``celery_ledger.contrib.beat`` are among the project's apps, and every Celery app has our class of tasks. What came of
it is kept in ``docs/reference/foreign-beat.md``.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from tests.package.told import run_on
from tests.processes import ROOT

FOLDER = ROOT / "var" / "foreign-beat"
PAGE = ROOT / "docs" / "reference" / "foreign-beat.md"
BEAT = f"django-celery-beat=={version('django-celery-beat')}"
PINNED = [f"{name}=={version(name)}" for name in ("django", "celery", "kombu")]
#: What its own ``requirements/test.txt`` asks for.
TOOLS = ["ephem", "pytest<9", "pytest-django<5", "pytest-timeout"]
SETTINGS = """
from t.proj.settings import *

INSTALLED_APPS += ["celery_ledger", "celery_ledger.contrib.beat"]
"""
PLUGIN = """
from celery import Celery, _state

initialize = Celery.__init__


def initialize_with_our_class(self, *arguments, **options):
    options.setdefault("task_cls", "celery_ledger:Task")
    initialize(self, *arguments, **options)


Celery.__init__ = initialize_with_our_class


def pytest_terminal_summary(terminalreporter):
    ours = [app for app in _state._get_active_apps() if getattr(app, "celery_ledger", False)]
    assert ours, "No Celery app of the tests had our class."
"""


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, command)), text=True, check=False, **options)


def prepare(folder: Path, package: str, tools: list[str], settings: str) -> tuple[Path, Path]:
    """Return the interpreter of an environment with a package's tools, and the folder with its tests."""
    shutil.rmtree(folder / "source", ignore_errors=True)
    (folder / "source").mkdir(parents=True)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv").check_returncode()
    pip = sys.executable, "-m", "pip", "--python", python
    run(*pip, "install", "-q", package, *PINNED, *tools).check_returncode()
    run(*pip, "install", "-q", "--no-deps", "--force-reinstall", ROOT).check_returncode()
    run(*pip, "download", "-q", "--no-deps", "--no-binary", ":all:", "--dest", folder, package).check_returncode()
    name, _, number = package.partition("==")
    [archive] = folder.glob(f"{name.replace('-', '*')}-{number}.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder / "source", filter="data")
    [source] = (folder / "source").iterdir()
    (source / "t" / "proj" / "ledger_settings.py").write_text(settings)
    (source / "ledger_plugin.py").write_text(PLUGIN)
    return python, source


#: What becomes of a test that does not pass.
ENDS = ("failure", "error", "skipped")


def count(python: Path, source: Path, *options: str) -> tuple[str, set[str]]:
    """Run the tests; return how many passed of how many, and which did not."""
    report = source / "report.xml"
    report.unlink(missing_ok=True)
    known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    run(
        python,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *options),
        cwd=source,
        env={**known, "PYTHONPATH": str(source)},
    )
    cases = ElementTree.parse(report).findall(".//testcase")
    failed = {case.get("name", "") for case in cases if any(case.find(end) is not None for end in ENDS)}
    return f"{len(cases) - len(failed)} of {len(cases)}", failed


def main() -> int:
    python, source = prepare(FOLDER, BEAT, TOOLS, SETTINGS)
    plain, failed_plain = count(python, source)
    beside, failed_beside = count(python, source, "--ds=t.proj.ledger_settings", "-p", "ledger_plugin")
    lines = [
        "| Tests of django-celery-beat | Passed |",
        "| --- | --- |",
        f"| plain | {plain} |",
        f"| alongside the package | {beside} |",
    ]
    print(*lines, *sorted(failed_plain | failed_beside), sep="\n")
    names = ", ".join(requirement.replace("==", " ") for requirement in (BEAT, *PINNED))
    PAGE.write_text(
        "# django-celery-beat's own tests\n\n"
        "What `make foreign-beat` found when it was last run: the tests of the source distribution, as they are, and\n"
        "with `celery_ledger` and `celery_ledger.contrib.beat` among the apps and `celery_ledger:Task` as the class\n"
        "of tasks of every app.\n\n"
        f"Run on {run_on()}, with {names}, Python {'.'.join(map(str, sys.version_info[:2]))}.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    return int(bool(failed_beside - failed_plain))


if __name__ == "__main__":
    sys.exit(main())
