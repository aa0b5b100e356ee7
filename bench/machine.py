"""Figures from /proc: CPU time and memory of process trees and of PostgreSQL; and a description of the machine."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


@dataclass(frozen=True)
class Process:
    """A line of /proc/<pid>/stat. ``reaped`` is the CPU time of children that have ended, in seconds."""

    pid: int
    parent: int
    cpu: float
    reaped: float


def read_process(pid: int) -> Process | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    user, system, reaped_user, reaped_system = (int(field) * TICK for field in fields[11:15])
    return Process(pid, int(fields[1]), user + system, reaped_user + reaped_system)


def tree(root: int) -> list[Process]:
    """Return a process and all that descend from it."""
    everything = [read_process(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit()]
    children: dict[int, list[Process]] = {}
    for process in everything:
        if process is not None:
            children.setdefault(process.parent, []).append(process)
    found, ahead = [], [process for process in everything if process is not None and process.pid == root]
    while ahead:
        process = ahead.pop()
        found.append(process)
        ahead += children.get(process.pid, [])
    return found


def tree_cpu(root: int) -> float:
    """Return the CPU seconds that a process tree has used, its ended processes included."""
    return sum(process.cpu + process.reaped for process in tree(root))


def tree_memory(root: int) -> float:
    """Return the memory of a process tree in MB: PSS, so that shared pages count once."""
    total = 0
    for process in tree(root):
        try:
            lines = (PROC / str(process.pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


class PostgreSQL:
    """
    The CPU time of a PostgreSQL server on this machine, by one of its backends' pids.

    Backends come and go, so it is what the postmaster has reaped and what its children have used. Sessions
    of other databases are left out while they live; when one ends, its time comes in at once.
    """

    def __init__(self, backend: int, database: str) -> None:
        process = read_process(backend)
        parent = read_process(process.parent) if process else None
        here = parent is not None and (PROC / str(backend) / "comm").read_text().startswith("postgres")
        self.postmaster = parent.pid if here and parent else None
        self.database = database

    def cpu(self) -> float:
        """Return the CPU seconds so far; 0 if the server runs elsewhere."""
        if self.postmaster is None:
            return 0.0
        return sum(
            process.reaped if process.pid == self.postmaster else process.cpu
            for process in tree(self.postmaster)
            if process.pid == self.postmaster or self._counts(process.pid)
        )

    def _counts(self, pid: int) -> bool:
        try:
            title = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return False
        is_session = "127.0.0.1" in title or "[local]" in title or "::1" in title
        return not is_session or f" {self.database} " in title


def hardware() -> dict[str, str | int]:
    """Describe this machine."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in (PROC / "cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = int((PROC / "meminfo").read_text().split()[1]) // 1024
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": memory,
        "system": f"{platform.system()} {platform.release()}",
    }
