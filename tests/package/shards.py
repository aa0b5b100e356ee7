"""The sharded project of ``tests/package/sharded``: its databases, and its processes."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.processes import ROOT, Process, wait_until

IMPORTED = """
import django
django.setup()
from celery import chain, chord, group
from celery.result import AsyncResult
from django.db import transaction
from celery_ledger import databases
from celery_ledger.models import *
from celery_ledger.rows.outbox import collecting
from tests.package.sharded.models import Effect
from tests.package.sharded.tasks import *
"""


class Shards:
    """The project on the databases ``said``, as Django's setting has them, and on a broker."""

    def __init__(self, folder: Path, said: dict[str, Any], broker_url: str, *, apps: Sequence[str] = ()) -> None:
        self.folder = folder
        self.said = said
        self.processes: list[Process] = []
        known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = known | {
            "SHARDS": json.dumps(said),
            "BROKER_URL": broker_url,
            "EXTRA_APPS": " ".join(apps),
            "DJANGO_SETTINGS_MODULE": "tests.package.sharded.settings",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *arguments: str, code: int | None = 0, both: bool = False) -> str:
        """Run Python to its end, and return what it printed, with ``both`` also what it said of errors."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert code is None or done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if both else "")

    def manage(self, *arguments: str, code: int | None = 0) -> str:
        return self.run("-m", "django", *arguments, code=code)

    def shell(self, code: str) -> Any:
        """Run ``code`` in the project, and return the JSON that it printed, if any."""
        said = self.run("-c", f"{IMPORTED}\nimport json\n{code}").strip()
        return json.loads(said.splitlines()[-1]) if said else None

    def migrate(self) -> None:
        for alias in self.said:
            self.manage("migrate", "--database", alias, "-v", "0")

    def start_relay(self, *options: str, name: str = "relay") -> Process:
        return self._start(name, "-m", "django", "relay", *options, ready="The relay is ready")

    def start_worker(self, *options: str, name: str = "worker", children: int = 2) -> Process:
        command = ("-m", "celery", "-A", "tests.package.sharded", "worker", "-l", "INFO", "-c", str(children))
        return self._start(name, *command, *options, ready=" ready.")

    def _start(self, name: str, *command: str, ready: str) -> Process:
        log = self.folder / f"{name}.log"
        process = Process(name, [sys.executable, *command], self.environment, log)
        self.processes.append(process)
        wait_until(f"{name} is ready", lambda: ready in log.read_text(), seconds=90)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
