"""
Celery's own integration tests of tasks and canvas, plain and with every task durable: ``make celery-suite``.

They come with the source distribution of the Celery that is installed here, and run unmodified in an environment and
a folder of their own, under ``var/``, on a Valkey of their own; nothing of them is kept. Durable means: every Celery
app of the tests has our class of tasks (``tests/package/durable_suite``), with a relay beside, on the PostgreSQL that
``DATABASE_URL`` names or on SQLite: once with the default options, once with ``transactional=True``. What came
of it, test by test, is kept in ``docs/reference/celery-suite.md``. Files and ways may be named: ``ARGS="tasks"`` leaves
canvas as it was found last. The tests of tasks run in another pool only where it is named, ``ARGS="threads"``. What
else is given on the command line goes to pytest, and then nothing is written: ``ARGS="tasks durable -k retry"``.
"""

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from tests.package.conftest import DATABASE_URL, PostgreSQL, Redis, SQLite
from tests.package.foreign_beat import run
from tests.processes import ROOT, Process, wait_until

FOLDER = ROOT / "var" / "celery-suite"
PAGE = ROOT / "docs" / "reference" / "celery-suite.md"
CELERY = f"celery=={version('celery')}"
PINNED = [f"{name}=={version(name)}" for name in ("django", "kombu", "redis", "psycopg")]
#: What its own ``requirements/test.txt`` asks for, as far as these tests take it.
TOOLS = ["psycopg-binary", "pydantic", "pytest<9", "pytest-rerunfailures", "pytest-subtests", "pytest-timeout"]
TASKS = "t/integration/test_tasks.py"
#: What is run, a file or a file in a pool, by the word that names it on the command line.
TESTS = {"tasks": TASKS, "canvas": "t/integration/test_canvas.py", "solo": TASKS, "threads": TASKS}
POOLS = ("solo", "threads")
#: Each way of running them: its heading, and what its environment says besides.
WAYS = {"plain": None, "durable": {}, "transactional": {"SUITE_TRANSACTIONAL": "1"}}
HEADINGS = {"plain": "plain", "durable": "durable", "transactional": "durable, `transactional=True`"}
PASSED, SKIPPED = "passed", "skipped"
_STAMPS = "stamps that are revoked stay revoked, and the test has its worker forget them"
_SUBSCRIBED = "a handle subscribes at Redis only when a caller waits for it: a call uses only the database"
_AT_ONCE = "a header is called in one transaction, all of it or nothing: its generator is read to its end first"
_IN_REDIS = "it reads a chord's parts from the keys of Celery's own backend; here they are rows"
_TWICE = "it calls a signature with the same id again: an id is one task, and is run once"
#: Why a test passes plain and not durable. What is not here is a defect.
REASONS = {
    "test_tasks.test_revoked_by_headers_simple_canvas": _STAMPS,
    "test_tasks.test_revoked_by_headers_complex_canvas": _STAMPS,
    "test_task_redis_result_backend.test_asyncresult_forget_cancels_subscription": _SUBSCRIBED,
    "test_task_redis_result_backend.test_asyncresult_get_cancels_subscription": _SUBSCRIBED,
    **{f"test_chord.test_generator[{size}]": _AT_ONCE for size in range(3, 10)},
    "test_chord.test_chord_on_error": _IN_REDIS,
    **{
        f"test_chord.test_mutable_errback_called_by_chord_from_{members}[errback_{style}_style]": _TWICE
        for members in ("chain", "chain_tail", "group")
        for style in ("old", "new")
    },
}
#: Of tests that fail plain now and then.
NOTES = {
    "test_task_replacement.test_replaced_task_nesting_level_0": " It forgets what it has seen just after its call, and "
    "fails where a worker was quicker than that.",
}
INTRODUCTION = """\
# Celery's own tests of tasks and canvas

What `make celery-suite` found when it was last run: `t/integration/test_tasks.py` and `test_canvas.py` of Celery's
source distribution, unmodified, with its results in Redis: as it is; with `celery_ledger:Task` as the class of all its
tasks, a real relay and its own prefork worker; and the same with `transactional=True`. Each test has 90 seconds and one
more try, on all sides.
"""


def prepare() -> tuple[Path, Path]:
    """Return an environment's interpreter, and the folder with the tests."""
    shutil.rmtree(FOLDER / "source", ignore_errors=True)
    (FOLDER / "source").mkdir(parents=True)
    python = FOLDER / "venv" / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", "--without-pip", FOLDER / "venv").check_returncode()
    pip = sys.executable, "-m", "pip", "--python", python
    run(*pip, "install", "-q", CELERY, *PINNED, *TOOLS).check_returncode()
    run(*pip, "install", "-q", "--no-deps", "--force-reinstall", ROOT).check_returncode()
    archive = FOLDER / f"celery-{version('celery')}.tar.gz"
    if not archive.exists():
        run(*pip, "download", "-q", "--no-deps", "--no-binary", "celery", "--dest", FOLDER, CELERY).check_returncode()
    with tarfile.open(archive) as file:
        file.extractall(FOLDER / "source", filter="data")
    [source] = (FOLDER / "source").iterdir()
    shutil.copytree(Path(__file__).parent / "durable_suite", source / "durable_suite")
    return python, source


class Place:
    """A broker, and for durable tasks a database with a relay."""

    def __init__(self, python: Path, source: Path, *, pool: str, extra: Mapping[str, str] | None) -> None:
        self.python, self.source = python, source
        self.database: PostgreSQL | SQLite | None = None
        self.relay: Process | None = None
        self.broker = Redis(FOLDER)
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment |= {
            "PYTHONPATH": str(source),
            "REDIS_PORT": self.broker.url.rpartition(":")[2].partition("/")[0],
            "TEST_BROKER": self.broker.url,
            "TEST_BACKEND": self.broker.url,
            "SUITE_POOL": pool,
            "WORKER_LOGLEVEL": "INFO",  # Two tests read what the worker logs at that level.
        }
        if extra is not None:
            self._make_durable(extra)

    def _make_durable(self, extra: Mapping[str, str]) -> None:
        (FOLDER / "db.sqlite3").unlink(missing_ok=True)
        self.database = PostgreSQL("celery_suite") if DATABASE_URL.startswith("postgres") else SQLite(FOLDER)
        self.environment |= {
            "DJANGO_SETTINGS_MODULE": "durable_suite.settings",
            "SUITE_DATABASE": json.dumps(self.database.said),
            **extra,
        }
        run(self.python, "-m", "django", "migrate", "-v", "0", cwd=self.source, env=self.environment).check_returncode()
        log = FOLDER / "relay.log"
        log.unlink(missing_ok=True)
        command = [str(self.python), "-m", "django", "relay"]
        self.relay = relay = Process("relay", command, self.environment, log, folder=self.source)
        wait_until("the relay is ready", lambda: relay.says("The relay is ready"))

    def end(self) -> None:
        if self.relay is not None:
            self.relay.kill()
        self.broker.end()
        if self.database is not None:
            self.database.drop()


def verdicts(python: Path, source: Path, tests: str, way: str, *options: str) -> dict[str, str]:
    """Run a file's tests one way; return what became of each: passed, skipped, or the first line of what it raised."""
    report = FOLDER / f"{tests}-{way}.xml"
    report.unlink(missing_ok=True)
    place = Place(python, source, pool=tests if tests in POOLS else "prefork", extra=WAYS[way])
    plugins = ["celery.contrib.pytest", "durable_suite.limits"] + ["durable_suite.plugin"] * (WAYS[way] is not None)
    try:
        run(
            python,
            *("-m", "pytest", "-q", f"--junit-xml={report}"),
            *(word for plugin in ("no:cacheprovider", *plugins) for word in ("-p", plugin)),
            *(*options, TESTS[tests]),
            cwd=source,
            env=place.environment,
        )
    finally:
        place.end()
    return read(report)


def read(report: Path) -> dict[str, str]:
    """Return what became of each test that a report has."""
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).findall(".//testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
        # A test that is tried again, or that has others within it, is there more than once.
        if found.get(name, PASSED) == PASSED:
            found[name] = _verdict(case)
    return found


def _verdict(case: ElementTree.Element) -> str:
    for end in ("failure", "error", "skipped"):
        if (said := case.find(end)) is not None:
            words = (said.get("message") or end).partition("\n")[0]
            if words.startswith("[XPASS(strict)]"):  # What fails with Celery itself.
                return PASSED
            return SKIPPED if end == "skipped" else words
    return PASSED


def compare(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the tests that pass plain and not every other way."""
    plain, *others = found
    return [
        name
        for name, verdict in found[plain].items()
        if verdict == PASSED and any(found[way].get(name) != PASSED for way in others)
    ]


def section(tests: str, found: Mapping[str, Mapping[str, str]]) -> str:
    """Return what is kept of the verdicts on a file's tests."""
    ways = list(found)
    counts = []
    for way, of_way in found.items():
        passed, skipped = (sum(verdict == kind for verdict in of_way.values()) for kind in (PASSED, SKIPPED))
        counts.append(f"| {HEADINGS[way]} | {passed} | {len(of_way) - passed - skipped} | {skipped} |")
    failed_plain = [name for name, verdict in found[ways[0]].items() if verdict not in (PASSED, SKIPPED)]
    exceptions = [
        f"| `{name}` | {' | '.join('yes' if found[way].get(name) == PASSED else 'no' for way in ways[1:])}"
        f" | {REASONS.get(name, 'not known')} |"
        for name in compare(found)
    ]
    names = ", ".join(requirement.replace("==", " ") for requirement in (CELERY, *PINNED))
    database = "PostgreSQL" if DATABASE_URL.startswith("postgres") else "SQLite"
    return "\n".join(
        [
            heading(tests),
            "",
            f"Run on {datetime.now(tz=UTC):%-d %B %Y}, on {database} and Valkey, with {names}, Python "
            f"{'.'.join(map(str, sys.version_info[:2]))}.",
            "",
            "| | passed | failed | skipped by Celery |",
            "| --- | --- | --- | --- |",
            *counts,
            "",
            *(f"Plain, `{name}` failed.{NOTES.get(name, '')}\n" for name in failed_plain),
            *(_exceptions_head(ways[1:]) if exceptions else ["Every test that passes plain passes durable."]),
            *exceptions,
            "",
        ]
    )


def _exceptions_head(ways: Sequence[str]) -> list[str]:
    columns = ["test", *(HEADINGS[way].removeprefix("durable, ") for way in ways), "why not"]
    lines = ["", f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    return ["What passes plain and not durable, and why:", *lines]


def heading(tests: str) -> str:
    return f"## `{Path(TESTS[tests]).name}`" + (f" in the pool `{tests}`" if tests in POOLS else "")


def sections() -> dict[str, str]:
    """Return what the page has of each file's tests."""
    parts = (f"## {part}".strip() for part in PAGE.read_text().split("\n## ")[1:])
    headings = {heading(tests): tests for tests in TESTS}
    return {headings[line]: part + "\n" for part in parts if (line := part.partition("\n")[0]) in headings}


def main() -> int:
    """Run the tests every way, or those files and ways that are named; say whether any differs for no known reason."""
    ways = [argument for argument in sys.argv[1:] if argument in WAYS] or list(WAYS)
    files = [argument for argument in sys.argv[1:] if argument in TESTS]
    files = files or [name for name in TESTS if name not in POOLS]
    options = [argument for argument in sys.argv[1:] if argument not in WAYS and argument not in TESTS]
    python, source = prepare()
    is_well = True
    for tests in files:
        own = [way for way in ways if way != "transactional" or tests not in POOLS]
        found = {way: verdicts(python, source, tests, way, *options) for way in own}
        for name in dict.fromkeys(name for of_way in found.values() for name in of_way):
            print(name, *(f"  {way}: {of_way.get(name, 'not run')}" for way, of_way in found.items()), sep="\n")
        if ways == list(WAYS):
            is_well = is_well and set(compare(found)) <= set(REASONS)
            if not options:
                known = sections() | {tests: section(tests, found)}
                PAGE.write_text("\n".join([INTRODUCTION, *(known[tests] for tests in TESTS if tests in known)]))
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main())
