"""
Tasks of a public project under a rollback, a commit, a ``kill -9`` and a broker that lost everything, with plain Celery
and with the package: ``make foreign-live``.

Source, interpreter and edits are those of ``make foreign``. The project runs on a database of its own on the PostgreSQL
that ``DATABASE_URL`` names and on a Valkey of its own, with its own worker; the files of ``live`` call two of its tasks
and note which begin and end. What came of it is kept in ``docs/reference/foreign-projects.md``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.package.conftest import Redis
from tests.package.foreign import (
    FOLDER,
    PAGE,
    PROJECTS,
    Project,
    add_the_package,
    environment,
    lay_the_package_beside,
    prepare,
    unpack,
)
from tests.package.told import keep_row, run_on
from tests.processes import Process, wait_until

LIVE = Path(__file__).parent / "live"
#: Calls of each of the two tasks, in each of the ways.
CALLS = 20
#: As long as this nothing happens, and no message waits: what has not ended by then is lost.
STILL = 45
WAYS = ("rollback", "commit", "kill -9", "flushed broker")
HEADER = "| Project | Tasks | Run after a rollback | Lost after a commit | after `kill -9` | with a flushed broker "
HEADER += "| Run on |\n"
HEADER += "| --- | --- | --- | --- | --- | --- | --- |\n"


@dataclass
class Site:
    """The project with or without the package: its folder, database, broker and processes."""

    project: Project
    python: Path
    folder: Path
    known: dict[str, str]
    broker: Redis
    book: Path
    hold: Path
    processes: list[Process] = field(default_factory=list)

    def manage(self, *arguments: str) -> None:
        self._run("manage.py", *arguments)

    def call(self, end: str) -> list[str]:
        """Call the tasks in a transaction; return the ids."""
        ids = self.book.with_suffix(".calls")
        live = self.project.live
        self._run("-m", "ledger_live_calls", str(ids), end, str(CALLS), json.dumps(live.tasks), live.app)
        return ids.read_text().split()

    def start(self, name: str, *arguments: str) -> Process:
        log = self.folder.with_suffix(f".{name}-{len(self.processes)}.log")
        log.write_text("")
        place = self.folder / self.project.folder
        process = Process(name, [str(self.python), *arguments], self.known, log, folder=place)
        self.processes.append(process)
        return process

    def start_worker(self) -> None:
        queues = ["-Q", self.project.live.queues] if self.project.live.queues else []
        options = ["-c", "2", "-l", "info", "--include", "ledger_live_watch", *queues]
        before = len(self.noted("ready"))
        worker = self.start("worker", "-m", "celery", "-A", self.project.live.app, "worker", *options)
        wait_until("it is ready", lambda: len(self.noted("ready")) > before or not worker.is_alive, seconds=300)
        if not worker.is_alive:
            raise SystemExit(f"The worker has ended: {worker.log}")

    def noted(self, word: str) -> list[str]:
        lines = self.book.read_text().splitlines() if self.book.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{word} ")]

    def end(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        self.broker.end()

    def _run(self, *arguments: str) -> None:
        place = self.folder / self.project.folder
        done = subprocess.run(
            [self.python, *arguments], cwd=place, env=self.known, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{arguments}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def until_ended_or_still(site: Site, calls: Sequence[str]) -> list[str]:
    """Wait until calls have ended, well or not, or nothing has moved for a while; return those that have not."""
    seen, since = "", time.monotonic()
    while missing := sorted(set(calls) - {*site.noted("done"), *site.noted("failed")}):
        now = f"{site.book.read_text() if site.book.exists() else ''}{waiting(site)}"
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > STILL:
            break
        time.sleep(0.2)
    return missing


def waiting(site: Site) -> int:
    """Return how many messages wait in lists of the broker."""
    lists = [key for key in site.broker.client.scan_iter() if site.broker.client.type(key) == b"list"]
    return sum(site.broker.client.llen(key) for key in lists)


def held_back(site: Site, calls: Sequence[str]) -> int:
    """Return how many of the calls the broker keeps for a worker that is dead, until its visibility timeout is over."""
    messages = b" ".join(site.broker.client.hvals("unacked"))
    return sum(call.encode() in messages for call in calls)


def under_a_rollback(site: Site) -> str:
    calls = site.call("rollback")
    until_ended_or_still(site, calls)
    return str(len(set(calls) & set(site.noted("begun"))))


def under_a_commit(site: Site) -> str:
    return lost(site, site.call("commit"))


def under_a_kill(site: Site) -> str:
    worker = site.processes[-1]
    site.hold.touch()
    before = len(site.noted("begun"))
    calls = site.call("commit")
    wait_until("two are begun", lambda: len(site.noted("begun")) >= before + 2, seconds=120)
    worker.kill()
    site.hold.unlink()
    site.start_worker()
    return lost(site, calls)


def under_a_flush(site: Site) -> str:
    site.processes[-1].stop(seconds=120)
    calls = site.call("commit")
    wait_until("all or many wait at the broker", lambda: waiting(site) > 0, seconds=120)
    site.broker.flush()
    site.start_worker()
    return lost(site, calls)


def lost(site: Site, calls: Sequence[str]) -> str:
    missing = until_ended_or_still(site, calls)
    held = held_back(site, missing)
    return f"{len(missing) - held}" + (f", and {held} held back" if held else "")


STEPS: dict[str, Callable[[Site], str]] = dict(
    zip(WAYS, (under_a_rollback, under_a_commit, under_a_kill, under_a_flush), strict=True)
)


def go_through(site: Site, *, has_package: bool) -> dict[str, str]:
    """Take the site through all ways, and return what was found in each."""
    if has_package:
        site.start("relay", "manage.py", "relay")
    site.start_worker()
    found = {}
    for way, step in STEPS.items():
        found[way] = step(site)
        print(f"  {way}: {found[way]} of {CALLS * len(site.project.live.tasks)}", flush=True)
    return found


def take_out(site: Site) -> None:
    """Go the way that the guide has for whom it did not convince; each command fails if it cannot be gone here."""
    site.manage("ledger_adopt")
    for process in reversed(site.processes):
        process.stop(seconds=120)
    for command in ("outbox stats", "outbox dead", "migrate -v 0 celery_ledger zero"):
        site.manage(*command.split())
    print("  and taken out again", flush=True)


def copy_database(server: str, template: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


def make_tables(server: str, site: Site, template: str) -> None:
    """Make the project's own tables in a database that is kept for the next time: some projects take minutes for it."""
    with psycopg.connect(server, autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [template]).fetchone() is not None:
            return
        connection.execute(f'DROP DATABASE IF EXISTS "{template}_new" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{template}_new"')
    known, site.known = site.known, site.known | environment(site.project, f"{template}_new", site.broker.url)
    site.manage("migrate", "-v", "0")
    site.known = known
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{template}_new" RENAME TO "{template}"')


def keep(name: str, project: Project, found: dict[str, dict[str, str]]) -> None:
    """Keep it in the page's table, in the row of this project."""
    paths = ", ".join(f"`{path.rpartition('.')[2]}`" for path, _ in project.live.tasks)
    cells = [" / ".join(found[kind][way] for kind in ("plain", "durable")) for way in WAYS]
    row = f"| {name} | {paths} | {' | '.join(cells)} | {run_on()} |"
    keep_row(PAGE, HEADER, f"| {name} |", row)


def main() -> int:
    parser = argparse.ArgumentParser(description="Take tasks of a public project through failures, plain and durable.")
    parser.add_argument("project", choices=sorted(name for name, project in PROJECTS.items() if project.live))
    parser.add_argument("--source", type=Path, required=True, help="a clone of it")
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has what it needs")
    asked = parser.parse_args()
    project = PROJECTS[asked.project]
    site_packages = lay_the_package_beside(asked.python, f"{asked.project}-live")
    server = os.environ["DATABASE_URL"].partition("?")[0].rpartition("/")[0] + "/postgres"
    found: dict[str, dict[str, str]] = {}
    template = f"live_{asked.project}"
    names = {kind: f"live_{asked.project}_{kind}" for kind in ("plain", "durable")}
    try:
        for kind, name in names.items():
            folder = FOLDER / f"{asked.project}-live-{kind}"
            unpack(asked.source, project, folder)
            has_package = kind == "durable"
            if has_package:
                add_the_package(project, folder)
            place = FOLDER / f"{asked.project}-live-broker"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            broker = Redis(place)
            known = environment(project, name, broker.url) | project.live.environment
            beside = [site_packages] if has_package else []
            known |= {
                "PYTHONPATH": os.pathsep.join(map(str, [folder / project.folder, LIVE, *beside])),
                "LIVE_BOOK": str(folder.with_suffix(".book")),
                "LIVE_HOLD": str(folder.with_suffix(".hold")),
                "C_FORCE_ROOT": "1",  # A worker that takes pickles, as root.
            }
            book, hold = folder.with_suffix(".book"), folder.with_suffix(".hold")
            book.unlink(missing_ok=True)
            hold.unlink(missing_ok=True)
            site = Site(project, asked.python, folder, known, broker, book, hold)
            try:
                prepare(project, asked.python, folder, known)
                if not has_package:
                    make_tables(server, site, template)
                copy_database(server, template, name)
                if has_package:
                    site.manage("migrate", "-v", "0", "celery_ledger")
                print(f"{asked.project}, {kind}, {run_on()}", flush=True)
                found[kind] = go_through(site, has_package=has_package)
                if has_package:
                    take_out(site)
            finally:
                site.end()
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            for name in names.values():
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    keep(asked.project, project, found)
    return int(any(not found["durable"][way].startswith("0") for way in WAYS))


if __name__ == "__main__":
    sys.exit(main())
