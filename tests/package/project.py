"""
An independent project: the output of ``django-admin startproject``, the example's application, and the two lines.

It runs by an interpreter that has the package's wheel and nothing else of ours, in an environment that says nothing.
"""

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.processes import ROOT, Process, wait_until

EXAMPLE = ROOT / "examples" / "two_lines"
IMPORTED = "from django.db import transaction\nfrom demoapp.models import Widget\nfrom demoapp.tasks import *\n"
#: What a person's shell says in any case. None of it is of this suite.
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


class Project:
    """A project in ``folder``, on the database and the broker that its settings name."""

    def __init__(
        self,
        folder: Path,
        python: Path,
        database: Any,
        broker: Any,
        *,
        guests: tuple[str, ...] = ("habits", "compositions"),
    ) -> None:
        self.folder = folder
        self.python = python
        self.database = database
        self.broker = broker
        self.processes: list[Process] = []
        self.worker: Process | None = None
        self.worker_is: tuple[str, ...] = ()
        self.run("-m", "django", "startproject", "proj", ".")
        for name in ("proj/__init__.py", "proj/celery.py"):
            shutil.copy(EXAMPLE / name, folder / name)
        shutil.copytree(EXAMPLE / "demoapp", folder / "demoapp")
        for name in guests:
            shutil.copytree(Path(__file__).parent / name, folder / name)
        with (folder / "proj" / "settings.py").open("a") as settings:
            apps = ["demoapp", *(name for name in guests if name == "habits"), "celery_ledger"]
            settings.write(f"INSTALLED_APPS += {apps!r}\n")
            settings.write(f"CELERY_BROKER_URL = {broker.url!r}\n{database.settings}")

    # --- What a person types ---

    def run(self, *arguments: str | Path) -> str:
        """Run Python with ``arguments`` to its end, and return what it printed."""
        done = subprocess.run(
            [self.python, *arguments], cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def shell(self, code: str) -> str:
        """Run ``code`` where the project's models and tasks are imported."""
        return self.run("manage.py", "shell", "-v", "0", "-c", IMPORTED + code).strip()

    def start_relay(self) -> Process:
        return self.start("relay", "manage.py", "relay")

    def start_worker(self, app: str = "proj", *options: str) -> Process:
        """Have exactly one worker, ready: of ``app``, with ``options``."""
        asked = (app, *options)
        if self.worker_is != asked:
            self.stop_worker()
        if self.worker is None or not self.worker.is_alive:
            concurrency = () if "-c" in options else ("-c", "2")
            self.worker_is = asked
            self.worker = worker = self.start(
                "worker", "-m", "celery", "-A", app, "worker", "-l", "info", *concurrency, *options
            )
            wait_until("the worker is ready", lambda: worker.says(" ready.") or not worker.is_alive, seconds=120)
            assert worker.is_alive, worker.log.read_text()
        return self.worker

    @contextmanager
    def in_the_middle(self, path: Path, code: str, *, worker: str = "proj") -> Iterator[str]:
        """
        Have a worker be in the middle of writing to ``path``, as ``code`` asks of it; yield what ``code`` prints.

        It is a pipe without a reader. What tries again finds no such file.
        """
        self.start_worker(worker)
        os.mkfifo(path)
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            said = self.shell(code)
            assert select.select([pipe], [], [], 120)[0], "No worker began to write."
            path.unlink()
            yield said
        finally:
            os.close(pipe)

    def stop_worker(self) -> None:
        if self.worker is not None and self.worker.is_alive:
            self.worker.stop(seconds=60)

    def start(self, name: str, *arguments: str) -> Process:
        """Start Python with ``arguments``."""
        log = self.folder / f"{name}-{len(self.processes)}.log"
        log.touch()
        process = Process(name, [str(self.python), *arguments], ENVIRONMENT, log, folder=self.folder)
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in reversed(self.processes):
            process.kill()

    def show_logs(self) -> None:
        """Print what the processes said; pytest shows it where a test failed."""
        for process in self.processes:
            print(f"--- {process.name} ---\n{process.log.read_text(errors='replace')[-6000:]}")

    # --- What a test sees ---

    def name_of(self, widget: str) -> str:
        [(name,)] = self._rows(f"SELECT name FROM demoapp_widget WHERE id = {int(widget)}")
        return name

    def record_of(self, call: str) -> tuple[str, int] | None:
        """Return status and attempts that the ledger has of a call, None if it has no such call."""
        found = self._rows(
            "SELECT status, attempts FROM celery_ledger_durabletask"
            f" WHERE REPLACE(CAST(id AS TEXT), '-', '') = '{UUID(call).hex}'"
        )
        return found[0] if found else None

    def has_succeeded(self, call: str, *, attempts: int = 1) -> bool:
        return self.record_of(call) == ("succeeded", attempts)

    def has_result(self, call: str) -> bool:
        """Return whether the ledger itself keeps what a call returned."""
        return bool(
            self._rows(
                f"SELECT id FROM celery_ledger_result WHERE REPLACE(CAST(id AS TEXT), '-', '') = '{UUID(call).hex}'"
            )
        )

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return connection.execute(sql).fetchall()
