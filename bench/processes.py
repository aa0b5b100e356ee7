"""A contender's processes: started in its environment, monitored, and ended."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import machine
from bench.contender import PYTHON, Command, Contender

ROOT = Path(__file__).resolve().parent.parent
START_PATIENCE = 60.0  # seconds after which a process that is not ready is given up


class Bench:
    """Where contenders run: URLs of the database and Redis, and a folder for logs."""

    def __init__(self, database_url: str, redis_url: str, logs: Path) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.logs = logs

    def environment(self, contender: Contender) -> dict[str, str]:
        """Production settings: no DEBUG, which would keep every query in memory."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "BENCH_CONTENDER": contender.name,
            "DJANGO_SETTINGS_MODULE": "bench.settings",
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "CELERY_BROKER_URL": self.redis_url,
            "DEBUG": "0",
            "SECRET_KEY": "only-for-the-bench-" * 3,
            "ALLOWED_HOSTS": "localhost",
            "LOG_LEVEL": "WARNING",
            "PREPARED_STATEMENTS": str(int(contender.prepared)),
        }

    def start(self, contender: Contender, command: Command, role: str) -> "Running":
        return Running(command, self.environment(contender), self.logs / f"{contender.name}-{role}.log")

    def manage(self, contender: Contender, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of Django's commands to its end."""
        return subprocess.run(
            [PYTHON, "manage.py", *arguments],
            env=self.environment(contender),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )


class Running:
    """A process started in a separate session, so that its children end with it."""

    def __init__(self, command: Command, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.said_before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
            )

    def wait_until_it_says(self, text: str) -> None:
        deadline = time.monotonic() + START_PATIENCE
        while text not in self.said():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"It did not get ready: {self.process.args}\n{self.said()[-2000:]}")
            time.sleep(0.02)

    def said(self) -> str:
        return self.log.read_bytes()[self.said_before :].decode(errors="replace")

    def stop(self) -> None:
        """Ask it to end; after five seconds, end it and its children."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Consumers:
    """A contender's workers and relay."""

    def __init__(self, bench: Bench, contender: Contender) -> None:
        self.bench = bench
        self.contender = contender
        self.workers: list[Running] = []
        self.relay: Running | None = None

    def __enter__(self) -> Self:
        """Start the workers, and the relay last: nothing is published before there are workers to take it."""
        try:
            for number, command in enumerate(self.contender.workers):
                self.workers.append(self.bench.start(self.contender, command, f"worker-{number}"))
            if self.contender.worker_ready:
                for worker in self.workers:
                    worker.wait_until_it_says(self.contender.worker_ready)
            if self.contender.relay:
                self.relay = self.bench.start(self.contender, self.contender.relay, "relay")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        for running in [self.relay, *self.workers] if self.relay else self.workers:
            running.stop()

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by role."""
        return {
            "relay": machine.tree_cpu(self.relay.process.pid) if self.relay else 0.0,
            "workers": sum(machine.tree_cpu(worker.process.pid) for worker in self.workers),
        }

    def memory(self) -> dict[str, float]:
        """MB, by role."""
        return {
            "relay": machine.tree_memory(self.relay.process.pid) if self.relay else 0.0,
            "workers": sum(machine.tree_memory(worker.process.pid) for worker in self.workers),
        }


class Told:
    """
    One of the bench's modules, in a process that prepares, waits for a command, and prints JSON.

    So the machine's counters can be read just before and after its work, and its memory at its end.
    """

    def __init__(self, bench: Bench, contender: Contender, module: str, *arguments: object) -> None:
        self.log = bench.logs / f"{contender.name}-{module}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-m", f"bench.{module}", *map(str, arguments)],
                env=bench.environment(contender),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        if self._hear() != "ready":
            raise RuntimeError(f"{module} of {contender.name} did not get ready:\n{self.log.read_text()[-2000:]}")

    def go(self) -> Self:
        self._say()
        return self

    def result(self) -> dict[str, Any]:
        """Wait until it is done; return its measurements, and its memory in MB."""
        line = self._hear()
        if not line:
            raise RuntimeError(f"{self.process.args} ended without an answer:\n{self.log.read_text()[-2000:]}")
        measured: dict[str, Any] = json.loads(line)
        measured["memory_mb"] = machine.tree_memory(self.process.pid)
        self._say()
        self.process.wait(10)
        return measured

    def _hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def _say(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
