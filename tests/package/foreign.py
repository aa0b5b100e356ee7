"""
A public project's own tests, plain and with the package added: ``make foreign``.

``SOURCE`` is a clone of the project, which is only read: its commit is unpacked under ``var/foreign``, twice.
``PYTHON`` is an interpreter that has what its tests need, made as its own documentation says; it is not changed, for
the package is laid beside it. The edits are in ``examples/foreign/projects.py``: at most ten lines, and none of them
the project's.
"""

import argparse
import difflib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from psycopg.conninfo import conninfo_to_dict

from tests.package.conftest import Redis
from tests.package.told import keep_row, run_on
from tests.processes import ROOT

FOLDER = ROOT / "var" / "foreign"
PAGE = ROOT / "docs" / "reference" / "foreign-projects.md"
sys.path.insert(0, str(ROOT / "examples" / "foreign"))
from projects import PROJECTS, Project  # noqa: E402

#: Lines that a project may change to have the package.
MOST_CHANGED = 10
ENDS = ("failure", "error", "skipped")
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")
HEADER = "| Project | Commit | Lines | Plain | With the package | Run on |\n| --- | --- | --- | --- | --- | --- |\n"


def unpack(source: Path, project: Project, folder: Path) -> None:
    """Put the project, as it is at its commit, into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["git", "-C", source, "archive", "--format=tar", project.commit], check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="tar")


def add_the_package(project: Project, folder: Path) -> int:
    """Apply the edits, and return how many lines are changed by them."""
    files = {edit.file for edit in project.edits}
    before = {file: (folder / file).read_text().splitlines() for file in files}
    for edit in project.edits:
        edit.apply(folder)
    changed = sum(
        line.startswith("+ ")
        for file in files
        for line in difflib.ndiff(before[file], (folder / file).read_text().splitlines())
    )
    if not 0 < changed <= MOST_CHANGED:
        raise SystemExit(f"The edits change {changed} lines; {MOST_CHANGED} are allowed.")
    return changed


def lay_the_package_beside(python: Path, name: str) -> Path:
    """Return a folder of a project's that has the package, and nothing that it depends on."""
    place = FOLDER / f"{name}-site"
    shutil.rmtree(place, ignore_errors=True)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place, ROOT]
    subprocess.run(list(map(str, install)), check=True)
    seen = subprocess.run([python, "-c", "import celery_ledger"], env={"PYTHONPATH": str(place)}, check=False)
    if seen.returncode:
        raise SystemExit(f"{python} cannot import the package: has it Celery and Django?")
    return place


@contextmanager
def own_broker(folder: Path) -> Iterator[str]:
    """Start a Valkey for one of the sides, which run at the same time, and say where it is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    broker = Redis(folder)
    try:
        yield broker.url
    finally:
        broker.end()


def environment(project: Project, database: str, broker: str) -> dict[str, str]:
    """Return what the project finds in its environment, and nothing of this run's."""
    known = conninfo_to_dict(os.environ["DATABASE_URL"].partition("?")[0])
    said = {key: str(known.get(key) or "") for key in ("host", "port", "user", "password")}
    said |= {"database": database, "redis": broker}
    its = {name: value.format(**said) for name, value in project.environment.items()}
    return {name: os.environ[name] for name in KEPT if name in os.environ} | its


def prepare(project: Project, python: Path, folder: Path, known: dict[str, str]) -> None:
    """Do what the project's documentation says to do before anything runs."""
    for command in project.before:
        words = [str(python) if word == "python" else word for word in command.split()]
        subprocess.run(words, cwd=folder / project.folder, env=known, check=True, stdout=subprocess.DEVNULL)


def run(project: Project, python: Path, folder: Path, known: dict[str, str], tests: Sequence[str]) -> dict[str, str]:
    """Run tests of the project in ``folder``, and return what came of each."""
    report = folder.with_suffix(".xml")
    report.unlink(missing_ok=True)
    fixed = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", f"--junit-xml={report}"]
    with folder.with_suffix(".log").open("w") as log:
        print(f"The tests write to {log.name}.", flush=True)
        subprocess.run(
            [python, "-m", "pytest", *fixed, *project.options, *tests],
            cwd=folder / project.folder,
            env=known,
            check=False,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return outcomes(report)


def outcomes(report: Path) -> dict[str, str]:
    """Return each test's outcome, as pytest's report has it."""
    cases = ElementTree.parse(report).findall(".//testcase")
    return {
        f"{case.get('classname')}.{case.get('name')}": next(
            (end for end in ENDS if case.find(end) is not None), "passed"
        )
        for case in cases
    }


def count(found: dict[str, str]) -> str:
    return f"{sum(end == 'passed' for end in found.values())} of {len(found)}"


def compare(plain: dict[str, str], durable: dict[str, str]) -> list[str]:
    """Return a line for each test of which the two runs say different things."""
    names = sorted(plain.keys() | durable.keys())
    return [
        f"{name}: plain {plain.get(name, 'not run')}, with the package {durable.get(name, 'not run')}"
        for name in names
        if plain.get(name) != durable.get(name)
    ]


def keep(name: str, project: Project, lines: int, plain: dict[str, str], durable: dict[str, str]) -> None:
    """Keep the counts in the page's table, in the row of this project."""
    counts = f"{count(plain)} | {count(durable)}"
    row = f"| [{name}]({project.repository}) | {project.commit[:10]} | {lines} | {counts} | {run_on()} |"
    keep_row(PAGE, HEADER, f"| [{name}]", row)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a public project's tests, plain and with the package.")
    parser.add_argument("project", choices=sorted(PROJECTS))
    parser.add_argument("--source", type=Path, required=True, help="a clone of it")
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has what its tests need")
    parser.add_argument("tests", nargs="*", help="tests to run instead of those that the page counts")
    asked = parser.parse_intermixed_args()
    project = PROJECTS[asked.project]
    site = lay_the_package_beside(asked.python, asked.project)
    folders = {kind: FOLDER / f"{asked.project}-{kind}" for kind in ("plain", "durable")}
    for folder in folders.values():
        unpack(asked.source, project, folder)
    lines = add_the_package(project, folders["durable"])

    def run_side(kind: str) -> dict[str, str]:
        folder = folders[kind]
        with own_broker(folder.with_suffix(".redis")) as url:
            known = environment(project, f"foreign_{asked.project}_{kind}", url)
            path = [folder / project.folder, *([site] if kind == "durable" else [])]
            known["PYTHONPATH"] = os.pathsep.join(map(str, path))
            prepare(project, asked.python, folder, known)
            return run(project, asked.python, folder, known, asked.tests or project.tests)

    with ThreadPoolExecutor(len(folders)) as both:
        found = dict(zip(folders, both.map(run_side, folders), strict=True))
    print(f"{asked.project} at {project.commit[:10]}, {run_on()}; {lines} lines added")
    print(f"plain: {count(found['plain'])} passed; with the package: {count(found['durable'])} passed")
    different = compare(found["plain"], found["durable"])
    print(*different, sep="\n")
    if not asked.tests:
        keep(asked.project, project, lines, found["plain"], found["durable"])
    return int(any("plain passed" in line for line in different))


if __name__ == "__main__":
    sys.exit(main())
