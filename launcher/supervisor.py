"""
Keeps processes running: starts them, restarts those that die, and stops all of them in order.

Every process leads its own group, so that Ctrl-C reaches only this process, and the children of a process end with it.
One thread does everything; waiting callers call :meth:`Supervisor.tick`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.console import say
from launcher.places import ROOT

#: Seconds that a process must run for its earlier deaths to be forgotten.
HEALTHY_AFTER = 60.0
#: Seconds before a restart: doubled with each successive death, up to the second number.
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
#: Seconds for a process to end when asked; then for the processes that the others needed until the end.
PATIENCE, PATIENCE_FOR_THE_LAST = 7.0, 2.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: A log that has grown beyond this is moved aside when its process starts.
LARGEST_LOG = 10_000_000  # bytes


@dataclass(frozen=True)
class Program:
    """A program to keep running, and how to tell from its output, or otherwise, that it is ready."""

    name: str
    command: Sequence[str]
    answers: Callable[[str], bool]
    #: The others need it until the end.
    ends_last: bool = False


class Child:
    """A supervised program: its current process, or the one that replaces it."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_at = 0.0
        self.deaths = 0
        self.answered = False
        self._log_begins_at = 0

    def start(self, environment: Mapping[str, str]) -> int:
        """Start the process and return its id, which is also that of its group."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with self.log.open("ab") as log:
            self._log_begins_at = log.tell()
            self.process = subprocess.Popen(
                self.program.command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_at = time.monotonic()
        self.answered = False
        return self.process.pid

    def output(self) -> str:
        """Return the output of the current process."""
        with self.log.open("rb") as log:
            log.seek(self._log_begins_at)
            return log.read().decode(errors="replace")

    def answers(self) -> bool:
        """Whether the process has answered since it started."""
        if not self.answered and self.process and self.process.poll() is None:
            self.answered = self.program.answers(self.output())
        return self.answered


class Supervisor:
    """
    Runs programs, in ``environment``, until SIGINT, SIGTERM or SIGHUP asks it to stop.

    ``held_open``: files that stay open until the last process has ended, even if this one is killed.
    """

    def __init__(self, logs: Path, held_open: Sequence[int] = ()) -> None:
        self.logs = logs
        self.environment: dict[str, str] = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.stop_asked = 0
        self._children: list[Child] = []
        self._guardian = subprocess.Popen(
            [sys.executable, "-S", "-m", "launcher.guardian"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=held_open,
        )
        self._handlers = {number: signal.signal(number, self._ask_to_stop) for number in STOP_SIGNALS}

    def _ask_to_stop(self, *_: object) -> None:
        self.stop_asked += 1

    def start(self, program: Program) -> Child:
        child = Child(program, self.logs / f"{program.name}.log")
        self._children.append(child)
        self._start(child)
        return child

    def run_once(self, name: str, command: Sequence[str], meanwhile: Callable[[], None]) -> tuple[int, str]:
        """Run a command to its end while supervising; return its exit code and output. A stop interrupts it."""
        child = Child(Program(name, command, lambda _: True), self.logs / f"{name}.log")
        self._tell_guardian("+", child.start(self.environment))
        assert child.process
        while child.process.poll() is None and not self.stop_asked:
            self.tick()
            meanwhile()
        self._sweep(child)
        return child.process.wait(), child.output()

    def unanswered(self) -> list[str]:
        """Return the names of the programs that have not answered since they started."""
        return [child.program.name for child in self._children if not child.answers()]

    def tick(self, seconds: float = 0.2) -> None:
        """Restart dead programs that are due, then wait briefly."""
        for child in self._children:
            if child.process and child.process.poll() is not None:
                self._bury(child)
            if not child.process and time.monotonic() >= child.start_at and not self.stop_asked:
                self._start(child)
                say(f"{child.program.name} is started again.")
        time.sleep(seconds)

    def watch(self) -> None:
        """Supervise until asked to stop."""
        while not self.stop_asked:
            self.tick()

    def stop(self) -> None:
        """Stop everything within ten seconds, in reverse order of starting."""
        self.stop_asked = max(1, self.stop_asked)
        backwards = self._children[::-1]
        self._end([child for child in backwards if not child.program.ends_last], PATIENCE)
        self._end([child for child in backwards if child.program.ends_last], PATIENCE_FOR_THE_LAST)
        self._children.clear()
        assert self._guardian.stdin
        self._guardian.stdin.close()
        self._guardian.wait()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _start(self, child: Child) -> None:
        try:
            self._tell_guardian("+", child.start(self.environment))
        except OSError as error:
            child.process = None
            self._delay(child, f"cannot be started ({error})")

    def _bury(self, child: Child) -> None:
        assert child.process
        code = child.process.returncode
        ran = time.monotonic() - child.started_at
        if ran >= HEALTHY_AFTER:
            child.deaths = 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        last_words = child.output().strip().splitlines()[-1:] if code > 0 else []
        self._sweep(child)
        child.process = None
        child.answered = False
        self._delay(child, f"{how} after {ran:.0f} s")
        for words in last_words:
            say(f"    {words}")

    def _delay(self, child: Child, what_happened: str) -> None:
        delay = min(FIRST_DELAY * 2**child.deaths, LONGEST_DELAY)
        child.deaths += 1
        child.start_at = time.monotonic() + delay
        say(f"{child.program.name} {what_happened}; it starts again in {delay:.1f} s. See {self._shown(child.log)}.")

    def _end(self, children: list[Child], patience: float) -> None:
        """Terminate these; kill those that do not end in time, or when the user insists."""
        asked = self.stop_asked
        processes = [child.process for child in children if child.process]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + patience
        while any(process.poll() is None for process in processes):
            if time.monotonic() >= deadline or self.stop_asked > asked:
                break
            time.sleep(0.05)
        for child in children:
            if child.process and child.process.poll() is None:
                say(f"{child.program.name} did not stop and was killed.")
            self._sweep(child)

    def _sweep(self, child: Child) -> None:
        """Kill the rest of a process's group, including the process."""
        if child.process:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
            self._tell_guardian("-", child.process.pid)

    def _tell_guardian(self, sign: str, group: int) -> None:
        assert self._guardian.stdin
        with suppress(BrokenPipeError):
            self._guardian.stdin.write(f"{sign}{group}\n".encode())
            self._guardian.stdin.flush()

    @staticmethod
    def _shown(path: Path) -> str:
        return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
