"""
Tests of all supported versions: ``make matrix``.

Not every combination, but nearly every pair of a Django, a Celery, a database and a broker, and each Python with each
Django that supports it. ``package`` installs the wheel in a newly created project. ``ledger`` and ``faults`` run the
ledger's own tests on versions other than those pinned for the shop. ``distribution`` builds and checks the files of a
release. ``table`` prints the outcomes and stores them in ``docs/reference/matrix.md``.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nox

ROOT = Path(__file__).parent
#: Outcomes of the sessions of one run, for the table.
RESULTS = ROOT / "var" / "matrix"
PAGE = ROOT / "docs" / "reference" / "matrix.md"
#: A PostgreSQL in which databases may be created, as for ``.ci/run``.
POSTGRES = os.environ.get("CI_POSTGRES", "postgres://postgres@127.0.0.1:5432")

#: Python, Django, Celery, database, broker. Django supports Python 3.11 only below 6.0.
PACKAGE = [
    ("3.11", "5.2", "5.6", "SQLite", "Redis"),
    ("3.11", "5.2", "5.7", "PostgreSQL", "RabbitMQ"),
    ("3.12", "5.2", "5.6", "PostgreSQL", "Redis"),
    ("3.12", "6.0", "5.7", "SQLite", "Redis"),
    ("3.12", "6.1", "5.6", "PostgreSQL", "RabbitMQ"),
    ("3.13", "5.2", "5.7", "PostgreSQL", "Redis"),
    ("3.13", "6.0", "5.6", "PostgreSQL", "RabbitMQ"),
    ("3.13", "6.1", "5.7", "PostgreSQL", "Redis"),
    ("3.13", "6.1", "5.7", "SQLite", "Redis"),
]
#: The same, among the shop's applications; one of them, django-celery-beat 2.9, does not support Django 6.1.
LEDGER = [
    ("3.11", "5.2", "5.7", "SQLite", "Redis"),
    ("3.12", "6.0", "5.6", "SQLite", "Redis"),
    ("3.13", "6.0", "5.7", "PostgreSQL", "Redis"),
]
LEDGER_TESTS = [
    "tests/integration/celery_ledger/contrib/test_django_tasks.py",
    "tests/integration/celery_ledger/desk/test_cancelling.py",
    "tests/integration/celery_ledger/work/test_carrying.py",
    "tests/integration/celery_ledger/test_celery_habits.py",
    "tests/integration/celery_ledger/work/test_consuming.py",
    "tests/integration/celery_ledger/rows/test_enqueueing.py",
    "tests/integration/celery_ledger/relay/test_relaying.py",
    "tests/integration/celery_ledger/rows/test_results.py",
    "tests/integration/celery_ledger/test_retries.py",
    "tests/integration/celery_ledger/test_signals.py",
    "tests/integration/celery_ledger/work/test_telling.py",
    "tests/integration/celery_ledger/work/test_unknown_tasks.py",
    "tests/integration/celery_ledger/test_walking.py",
]
#: Tests that kill processes and brokers.
FAULT_TESTS = ["tests/faults/test_lost_processes.py", "tests/faults/test_lost_brokers.py"]
#: Requirements that the combination replaces, and tools that no test needs.
LEFT_OUT = re.compile(
    r"-r |celery\[|django>|bandit|django-stubs|djangorestframework-stubs|import-linter|mypy|playwright|ruff"
)
#: As in pyproject.toml, except for warnings of newer versions about the shop: its mails, a task's queue and priority.
WARNINGS = [
    "error",
    r"ignore:\s*The .* task attribute:celery.exceptions.CDeprecationWarning",
    "ignore:MIMEBase attachments are deprecated",
]

nox.options.sessions = ["distribution", "package", "ledger", "faults", "table"]
nox.options.reuse_existing_virtualenvs = True
pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, sorted(pyenv.glob("versions/3.1[123].*/bin")))])


def corners(of: list[tuple[str, ...]]) -> Callable[[Any], Any]:
    """Run a session once for each combination of versions, named after it."""
    return nox.parametrize(
        ["python", "django", "celery", "database", "broker"],
        [nox.param(*corner, id="-".join(corner)) for corner in of],
    )


@nox.session
@corners(PACKAGE)
def package(session: nox.Session, django: str, celery: str, database: str, broker: str) -> None:
    """Install the package's wheel in a new project, and kill, flush and roll back there."""
    wheels = RESULTS / "wheel"
    runner = str(ROOT / ".venv" / "bin" / "python")
    session.run(runner, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(wheels), str(ROOT), external=True)
    [wheel] = wheels.glob("*.whl")
    extra = "[redis]" if broker == "Redis" else ""
    driver = ["psycopg[binary]"] if database == "PostgreSQL" else []
    versions = f"django~={django}.0", f"celery~={celery}.0"
    backport = ["django-tasks"] if django == "5.2" else []
    session.install(f"celery-ledger{extra} @ {wheel.as_uri()}", *versions, *driver, *backport)
    session.install("--force-reinstall", "--no-deps", str(wheel))
    run_tests(
        session,
        runner,
        ["tests/package/test_two_lines.py", "tests/package/test_django_tasks.py", "-k", f"{database} and {broker}"],
        (django, celery, database, broker),
        PACKAGE_PYTHON=str(Path(session.bin) / "python"),
    )


@nox.session
@corners(LEDGER)
def ledger(session: nox.Session, django: str, celery: str, database: str, broker: str) -> None:
    """Run the ledger's own tests, with the shop's settings."""
    run_among_the_shop(session, LEDGER_TESTS, (django, celery, database, broker))


@nox.session
@corners(LEDGER)
def faults(session: nox.Session, django: str, celery: str, database: str, broker: str) -> None:
    """Run the fault tests, which kill the shop's workers, relays and brokers."""
    run_among_the_shop(session, FAULT_TESTS, (django, celery, database, broker))


def run_among_the_shop(session: nox.Session, tests: list[str], corner: tuple[str, ...]) -> None:
    """Run the repository's tests with the shop's requirements, in the session's versions."""
    django, celery = corner[:2]
    named = [line for name in ("requirements.in", "requirements-dev.in") for line in (ROOT / name).open()]
    others = session.create_tmp() + "/others.txt"
    Path(others).write_text("".join(line for line in named if not LEFT_OUT.match(line)))
    session.install("-r", others, f"django~={django}.0", f"celery[redis]~={celery}.0")
    warnings = ["-o", "filterwarnings=" + "\n".join(WARNINGS)]
    run_tests(session, "python", [*tests, *warnings], corner)


@nox.session
def distribution(session: nox.Session) -> None:
    """Build the distribution in ``dist``; check it, and the workflows against their schema."""
    session.install("build==1.6.1", "twine==7.0.0", "check-wheel-contents==0.6.3", "check-jsonschema==0.39.0")
    workflows = map(str, sorted(ROOT.glob(".github/workflows/*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build")
    made = [str(file) for file in (ROOT / "dist").iterdir()]
    session.run("twine", "check", "--strict", *made)
    session.run("check-wheel-contents", *(file for file in made if file.endswith(".whl")))


@nox.session(venv_backend="none")
def table(session: nox.Session) -> None:
    """Print and store the outcome of each combination of this run."""
    rows = sorted(json.loads(file.read_text()) for file in RESULTS.glob("*.json"))
    if not rows:
        session.error("Nothing was run.")
    heads = ["Tests", "Python", "Django", "Celery", "kombu", "Database", "Broker", "Passed", "Outcome"]
    lines = [f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows]]
    print(*lines, sep="\n")
    commit = git("rev-parse", "--short", "HEAD") + (", changed" if git("status", "--porcelain") else "")
    PAGE.write_text(
        "# The matrix\n\n"
        "What `make matrix` found when it was last run; `noxfile.py` says what each kind of tests is. The tests\n"
        "start brokers of their own: Redis is a Valkey.\n\n"
        f"Run on {datetime.now(tz=UTC):%-d %B %Y}, of {commit}.\n\n" + "\n".join(lines) + "\n"
    )


def run_tests(
    session: nox.Session, python: str, arguments: list[str], corner: tuple[str, ...], **environment: str
) -> None:
    """Run pytest in the repository, and store its outcome for the table."""
    database, broker = corner[-2:]
    kind = session.name.partition("-")[0].partition("(")[0]
    name = "-".join([kind, session.python, *corner])
    report = RESULTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    for unwanted in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"):
        session.env[unwanted] = None
    if database == "PostgreSQL":
        environment["DATABASE_URL"] = f"{POSTGRES}/shopwire_matrix"
    versions = session.run(
        "python",
        "-c",
        "import django, celery, kombu; print(django.__version__, celery.__version__, kombu.__version__)",
        silent=True,
    )
    outcome = "failed"
    try:
        session.run(
            python,
            "-m",
            "pytest",
            "-q",
            "-n0",
            "-p",
            "no:cacheprovider",
            f"--junit-xml={report}",
            *arguments,
            env={"DEBUG": "1", **environment},
            external=True,
        )
        outcome = "passed"
    finally:
        found = ElementTree.parse(report).find("testsuite") if report.exists() else None
        counts = (
            {key: int(found.get(key)) for key in ("tests", "failures", "errors", "skipped")}
            if found is not None
            else {}
        )
        all_of_them = counts.get("tests", 0) - counts.get("skipped", 0)
        passed = all_of_them - counts.get("failures", 0) - counts.get("errors", 0)
        row = [kind, session.python, *versions.split(), database, broker, f"{passed} of {all_of_them}", outcome]
        if not all_of_them:
            session.error("No test was run.")
        (RESULTS / f"{name}.json").write_text(json.dumps(row))


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
