"""
Django's own tests of tasks and their backends, as they are and with the ledger as the backend: ``make django-suite``.

They come with the source distribution of each Django, and run unmodified in environments of their own, under ``var/``;
nothing of them is kept. Where they name one of Django's backends, ``django_judged`` puts the ledger in its place. What
came of it is kept in ``docs/reference/django-suite.md``, with a reason for each test that passes with Django's backend
alone: it would be a defect without one.
"""

import os
import shutil
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.package.celery_suite import PASSED, SKIPPED, compare, read
from tests.package.foreign_beat import run
from tests.package.told import run_on
from tests.processes import ROOT

FOLDER = ROOT / "var" / "django-suite"
PAGE = ROOT / "docs" / "reference" / "django-suite.md"
CORNERS = [("3.12", "6.0"), ("3.13", "6.0"), ("3.12", "6.1"), ("3.13", "6.1")]
TOOLS = ["celery[redis]~=5.6.0", "pytest", "pytest-django"]
JUDGED = Path(__file__).parent / "django_judged"
_ITS_LIST = "it changes an entry of DummyBackend's own list and expects to read that; rows are changed in the table"
_CAN = "it holds ImmediateBackend to what that cannot do, and the ledger can"
#: Why a test passes with Django's backend alone. What is not here is a defect.
REASONS = {
    "DummyBackendTestCase.test_refresh_result": _ITS_LIST,
    "DummyBackendTestCase.test_refresh_result_async": _ITS_LIST,
    "TaskTestCase.test_refresh_result": _ITS_LIST,
    "TaskTestCase.test_refresh_result_async": _ITS_LIST,
    "ImmediateBackendTestCase.test_cannot_get_result": _CAN,
    "ImmediateBackendTestCase.test_cannot_refresh_result": _CAN,
    "ImmediateBackendTestCase.test_cannot_pass_run_after": _CAN,
    "ImmediateBackendTestCase.test_catches_exception": "of its two errors, `SystemExit` ends the process that runs it, "
    "as with every Celery task; the row counts that as a crash",
}
INTRODUCTION = """\
# Django's own tests of tasks

What `make django-suite` found when it was last run: `tests/tasks` of Django's source distribution, unmodified, with
Django's backends, and with `celery_ledger.contrib.django_tasks.LedgerBackend` in the place of each. Where the tests
have `DummyBackend`, calls stay rows; where they have `ImmediateBackend`, the row is run before `enqueue` returns, the
way a worker runs it.
"""


def prepare(python: str, django: str) -> tuple[Path, Path]:
    """Return the interpreter of an environment with a Django and the package, and the folder with Django's tests."""
    place = FOLDER / f"{python}-{django}"
    interpreter = place / "venv" / "bin" / "python"
    found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{python}.*/bin/python{python}"))
    if not interpreter.exists():
        base = str(found[-1]) if found else f"python{python}"
        run(base, "-m", "venv", "--without-pip", place / "venv").check_returncode()
    pip = sys.executable, "-m", "pip", "--python", interpreter
    run(*pip, "install", "-q", f"django~={django}.0", *TOOLS).check_returncode()
    run(*pip, "install", "-q", "--no-deps", "--force-reinstall", ROOT).check_returncode()
    number = version(interpreter, "django")
    archive = place / f"django-{number}.tar.gz"
    if not archive.exists():
        run(*pip, "download", "-q", "--no-deps", "--no-binary", "django", "--dest", place, f"django=={number}")
    source = place / "source"
    shutil.rmtree(source, ignore_errors=True)
    with tarfile.open(archive) as file:
        tests = [member for member in file.getmembers() if "/tests/tasks/" in member.name]
        file.extractall(source, members=tests, filter="data")
    [folder] = source.glob("*/tests")
    shutil.copytree(JUDGED, folder / JUDGED.name)
    return interpreter, folder


def version(interpreter: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return str(run(interpreter, "-c", code, capture_output=True).stdout).strip()


def verdicts(interpreter: Path, folder: Path, *options: str) -> dict[str, str]:
    """Run the tests; return what became of each."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    run(
        interpreter,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.", f"--junit-xml={report}"),
        *("-o", "python_files=test_*.py", "--ds=django_judged.settings", "--create-db", *options, "tasks"),
        cwd=folder,
        env={**known, "PYTHONPATH": str(folder)},
    )
    return read(report)


def count(found: Mapping[str, str]) -> str:
    run_at_all = [verdict for verdict in found.values() if verdict != SKIPPED]
    return f"{run_at_all.count(PASSED)} of {len(run_at_all)}"


def main() -> int:
    rows, different = [], dict.fromkeys(REASONS, False)
    strange = set()
    for python, django in CORNERS:
        interpreter, folder = prepare(python, django)
        found = {
            "plain": verdicts(interpreter, folder),
            "ledger": verdicts(interpreter, folder, "-p", "django_judged.plugin"),
        }
        for name in compare(found):
            print(name, found["ledger"].get(name, "not run"), sep="\n  ")
            strange |= {name} - REASONS.keys()
            different[name] = True
        versions = [version(interpreter, package) for package in ("django", "celery")]
        print(python, django, count(found["plain"]), count(found["ledger"]))
        rows.append(f"| {python} | {' | '.join(versions)} | {count(found['plain'])} | {count(found['ledger'])} |")
    table = ["| Python | Django | Celery | Django's backends | the ledger |", "| --- | --- | --- | --- | --- |", *rows]
    print(*table, sep="\n")
    reasons = [f"| `{name}` | {REASONS.get(name, 'not known')} |" for name, is_so in different.items() if is_so]
    differing = [
        "",
        "What passes with Django's backends alone, and why:",
        "",
        "| test | why |",
        "| --- | --- |",
        *reasons,
    ]
    text = [f"{INTRODUCTION}\nRun on {run_on()}.\n", *table, *differing]
    PAGE.write_text("\n".join(text) + "\n")
    return int(bool(strange))


if __name__ == "__main__":
    sys.exit(main())
