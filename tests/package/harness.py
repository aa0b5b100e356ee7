"""
due-work-harness, an outside judge, asked about the ledger and about plain Celery: ``make harness``.

It kills workers after every commit and every call of a provider, fails receivers and hooks, and compares what is left
with what normal operation leaves. Its contracts are unmodified; they are applied to the project in ``due_work``, with
the wheel of this commit, on Python 3.12, in an environment, a database and a Valkey of its own. What came of it is kept
in ``docs/reference/due-work-harness.md``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.package.conftest import Redis
from tests.package.told import run_on
from tests.processes import ROOT

FOLDER = ROOT / "var" / "harness"
PAGE = ROOT / "docs" / "reference" / "due-work-harness.md"
HARNESS = "due-work-harness==0.7.0"
REQUIRED = [HARNESS, "django~=6.1.0", "celery[redis]~=5.6.0", "psycopg[binary]", "pytest-django", "time-machine"]
DATABASE = "due_work_harness"
#: What each suite is about, in the order of the page.
SUITES = {
    "TestEnqueueing": "an order and its task, enqueued in one transaction: Celery's, and Django's",
    "TestEffectsInTheDatabase": "a worker runs a transactional task, killed after each commit: Celery's, and Django's",
    "TestEffectsOutside": "a worker runs a task with an effect outside, killed after each commit and each call",
    "TestInTheDatabase": "a real worker with a transactional task, killed at Celery's stages",
    "TestOutside": "a real worker with an effect outside, killed at Celery's stages",
    "TestPlain": "plain Celery, default settings, killed at the same stages",
    "TestPlainLate": "plain Celery, acknowledged late, killed at the same stages",
}


def python() -> Path:
    """Return the interpreter of an environment that has the harness, and the wheel of this commit."""
    place = FOLDER / "venv"
    interpreter = place / "bin" / "python"
    found = [*sorted((Path.home() / ".pyenv" / "versions").glob("3.12.*/bin/python3.12")), shutil.which("python3.12")]
    if not interpreter.exists():
        subprocess.run([next(filter(None, found)), "-m", "venv", "--without-pip", place], check=True)
    install = [sys.executable, "-m", "pip", "--python", interpreter, "install", "-q"]
    subprocess.run([*install, *REQUIRED], check=True)
    subprocess.run([*install, "--no-deps", "--force-reinstall", ROOT], check=True)
    return interpreter


def judge(interpreter: Path, report: Path) -> int:
    """Have the harness judge, and return pytest's exit code."""
    server = os.environ["DATABASE_URL"].partition("?")[0].rpartition("/")[0] + "/postgres"
    known = conninfo_to_dict(server)
    project = FOLDER / "project"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(Path(__file__).parent / "due_work", project)
    (project / "__init__.py").unlink()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
    broker = Redis(FOLDER)
    said = {
        **{f"HARNESS_{key.upper()}": str(known.get(key) or "") for key in ("host", "port", "user", "password")},
        "HARNESS_DATABASE": DATABASE,
        "HARNESS_REDIS": broker.url,
        "HARNESS_BOOK": str(project / "book"),
        "HARNESS_LOG": str(project / "workers.log"),
        "DJANGO_SETTINGS_MODULE": "proj.settings",
        "PYTHONPATH": str(project),
    }
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ} | said
    options = {"cwd": project, "env": environment, "check": False}
    try:
        subprocess.run([interpreter, "-m", "proj.manage", "migrate", "-v", "0"], **options)
        asked = ["-q", "-p", "no:cacheprovider", "--due-work-summary", f"--junit-xml={report}"]
        return subprocess.run([interpreter, "-m", "pytest", *asked], **options).returncode
    finally:
        broker.end()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def found_by(report: Path) -> dict[str, dict[str, list[str]]]:
    """Return what came of the histories of each suite; a profile that is declined is no history."""
    found: dict[str, dict[str, list[str]]] = {name: {"converge": [], "gap": [], "failed": []} for name in SUITES}
    for case in ElementTree.parse(report).findall(".//testcase"):
        name = str(case.get("name"))
        if "[handoff-" not in name and "[process-" not in name:
            continue
        gap, failed = case.find("skipped"), case.find("failure") is not None or case.find("error") is not None
        history = name.partition("[")[2].partition("-")[2].rpartition("-")[0]
        suite = found[str(case.get("classname")).rpartition(".")[2]]
        suite["failed" if failed else "gap" if gap is not None else "converge"].append(history)
    return found


def keep(found: dict[str, dict[str, list[str]]]) -> None:
    """Keep it on the page."""
    rows = ["| Asked about | Histories that end as normal operation does | With a gap |", "| --- | --- | --- |"]
    for name, what in SUITES.items():
        suite = found[name]
        rows.append(f"| {what} | {len(suite['converge'])} | {', '.join(suite['gap'] + suite['failed']) or 'none'} |")
    text = PAGE.read_text()
    before, begin, rest = text.partition("<!-- found: written by `make harness` -->\n")
    _, end, after = rest.partition("<!-- /found -->")
    when = f"Run on {run_on()}, with {HARNESS.replace('==', ' ')}.\n\n"
    PAGE.write_text(before + begin + when + "\n".join(rows) + "\n" + end + after)


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = FOLDER / "report.xml"
    report.unlink(missing_ok=True)
    code = judge(python(), report)
    found = found_by(report)
    keep(found)
    return code or int(any(suite["failed"] for suite in found.values()))


if __name__ == "__main__":
    sys.exit(main())
