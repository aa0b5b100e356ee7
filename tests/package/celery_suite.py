"""
Celery's own integration tests of tasks and canvas, plain and with every task durable: ``make celery-suite``.

They come with the source distribution of the Celery that is installed here, and run unmodified in an environment and
a folder of their own, under ``var/``, on a Valkey of their own; nothing of them is kept. Durable means: every Celery
app of the tests has our class of tasks (``tests/package/durable_suite``), with a relay beside, on the PostgreSQL that
``DATABASE_URL`` names or on SQLite: once with the default options, once with ``transactional=True``. What came
of it, test by test, is kept in ``docs/reference/celery-suite.md``. Files and ways may be named: ``ARGS="tasks"`` leaves
canvas as it was found last. The tests of tasks run in another pool only where it is named, ``ARGS="threads"``. What
else is given on the command line goes to pytest, and then nothing is written: ``ARGS="tasks durable -k retry"``.

The ways of a file run side by side, each with a broker, a database and a relay of its own. So do the portions of a
file, for most of what the tests do is wait. A test that then differs for no known reason is tried once more on all
sides, when the others have ended.
"""

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
COMMIT = run("git", "rev-parse", "--short", "HEAD", cwd=ROOT, capture_output=True).stdout.strip()
PINNED = [f"{name}=={version(name)}" for name in ("django", "kombu", "redis", "psycopg")]
#: What its own ``requirements/test.txt`` asks for, as far as these tests take it.
TOOLS = ["psycopg-binary", "pydantic", "pytest<9", "pytest-rerunfailures", "pytest-subtests", "pytest-timeout"]
TASKS = "t/integration/test_tasks.py"
#: What is run, a file or a file in a pool, by the word that names it on the command line.
TESTS = {"tasks": TASKS, "canvas": "t/integration/test_canvas.py", "solo": TASKS, "threads": TASKS}
POOLS = ("solo", "threads")
#: Those that run side by side, as options of pytest.
PORTIONS = {"canvas": (("-k", "test_chord"), ("-k", "not test_chord"))}
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
more try, on all sides. In the pools `solo` and `threads`, plain Celery's own worker, a thread of the tests' process,
does not end, and the tests after it hang: there, each test runs in a process of its own, for 45 seconds and once.
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

    def __init__(self, python: Path, source: Path, folder: Path, *, pool: str, extra: Mapping[str, str] | None) -> None:
        self.python, self.source, self.folder = python, source, folder
        self.database: PostgreSQL | SQLite | None = None
        self.relay: Process | None = None
        self.broker = Redis(folder)
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
        name = f"celery_suite_{self.folder.name}".replace("-", "_")
        self.database = PostgreSQL(name) if DATABASE_URL.startswith("postgres") else SQLite(self.folder)
        self.environment |= {
            "DJANGO_SETTINGS_MODULE": "durable_suite.settings",
            "SUITE_DATABASE": json.dumps(self.database.said),
            **extra,
        }
        run(self.python, "-m", "django", "migrate", "-v", "0", cwd=self.source, env=self.environment).check_returncode()
        log = self.folder / "relay.log"
        command = [str(self.python), "-m", "django", "relay"]
        self.relay = relay = Process("relay", command, self.environment, log, folder=self.source)
        wait_until("the relay is ready", lambda: relay.says("The relay is ready"))

    def end(self) -> None:
        if self.relay is not None:
            self.relay.kill()
        self.broker.end()
        if self.database is not None:
            self.database.drop()


def verdicts(python: Path, source: Path, tests: str, way: str, number: int, *words: str) -> dict[str, str]:
    """Run those tests that words for pytest name, one way; return what became of each: passed, skipped, or an error."""
    folder = FOLDER / f"{tests}-{way}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    place = Place(python, source, folder, pool=tests if tests in POOLS else "prefork", extra=WAYS[way])
    plugins = ["celery.contrib.pytest", "durable_suite.limits"] + ["durable_suite.plugin"] * (WAYS[way] is not None)
    try:
        with (folder / "pytest.log").open("w") as log:
            run(
                python,
                *("-m", "pytest", "-v", f"--junit-xml={folder / 'report.xml'}"),
                *(word for plugin in ("no:cacheprovider", *plugins) for word in ("-p", plugin)),
                *words,
                cwd=source,
                env=place.environment,
                stdout=log,
                stderr=log,
            )
    finally:
        place.end()
    return read(folder / "report.xml")


def run_all(
    python: Path, source: Path, tests: str, ways: Sequence[str], portions: Sequence[Sequence[str]]
) -> dict[str, dict[str, str]]:
    """Run the portions of a file's tests side by side, all ways; return what became of each test, by way."""
    with ThreadPoolExecutor(len(ways) * len(portions)) as threads:
        running = {
            way: [
                threads.submit(verdicts, python, source, tests, way, number, *portion)
                for number, portion in enumerate(portions)
            ]
            for way in ways
        }
        return {
            way: {name: verdict for portion in of_way for name, verdict in portion.result().items()}
            for way, of_way in running.items()
        }


def try_again(python: Path, source: Path, tests: str, found: dict[str, dict[str, str]]) -> int:
    """Try tests that differ for no known reason once more, all ways; return how many there are."""
    names = [name for name in compare(found) if name not in REASONS]
    if names:
        nodes = [f"{TESTS[tests]}::{name.replace('.', '::', 1)}" for name in names]
        for way, of_way in run_all(python, source, tests, list(found), [nodes]).items():
            found[way] |= {name: verdict for name, verdict in of_way.items() if found[way].get(name) != PASSED}
    return len(names)


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


def section(tests: str, found: Mapping[str, Mapping[str, str]], tried: int) -> str:
    """Return what is kept of the verdicts on a file's tests, some of them of a further try."""
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
            f"Run on {datetime.now(tz=UTC):%-d %B %Y}, commit {COMMIT}, on {database} and Valkey, with {names}, Python "
            f"{'.'.join(map(str, sys.version_info[:2]))}, at a load average of {os.getloadavg()[2]:.0f} on "
            f"{os.cpu_count()} cores. Tests that differed for no known reason, and were tried once more: {tried}.",
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
        portions = [(*options, *portion, TESTS[tests]) for portion in ([()] if options else PORTIONS.get(tests, [()]))]
        found = run_all(python, source, tests, own, portions)
        tried = try_again(python, source, tests, found) if ways == list(WAYS) else 0
        for name in dict.fromkeys(name for of_way in found.values() for name in of_way):
            print(name, *(f"  {way}: {of_way.get(name, 'not run')}" for way, of_way in found.items()), sep="\n")
        if ways == list(WAYS):
            is_well = is_well and set(compare(found)) <= set(REASONS)
            if not options:
                known = sections() | {tests: section(tests, found, tried)}
                PAGE.write_text("\n".join([INTRODUCTION, *(known[tests] for tests in TESTS if tests in known)]))
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main())
