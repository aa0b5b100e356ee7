"""
The cost of canvases: a chord compared with its tasks alone, and the growth with the length of chains and chords.

``make bench-canvas``. One relay, one worker of two processes, a PostgreSQL (``BENCH_DATABASE``: a database that may be
emptied) and a Redis (``BENCH_REDIS``). Rounds alternate, and ratios are of their medians.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import django
from celery import Celery, chord, group
from celery.canvas import _chain
from django.conf import settings
from django.db import transaction
from environ import Env

_DATABASE = os.environ.get("BENCH_DATABASE", "postgres://postgres@127.0.0.1/bench_canvas")
settings.configure(
    SECRET_KEY="of no importance",
    INSTALLED_APPS=["celery_ledger"],
    DATABASES={"default": Env.db_url_config(_DATABASE)},
    USE_TZ=True,
)
app = Celery("canvases", task_cls="celery_ledger:Task")
app.conf.update(broker_url=os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/15"), result_backend=None)
django.setup()

#: Members of the chord that is run, rounds, and the lengths of the chains and headers that are called.
MEMBERS = int(os.environ.get("BENCH_MEMBERS", "1000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
LENGTHS = [int(length) for length in os.environ.get("BENCH_LENGTHS", "1000,10000,100000").split(",")]


@app.task(name="bench.same", transactional=True)
def same(number: int) -> int:
    return number


@app.task(name="bench.same_outside")
def same_outside(number: int) -> int:
    return number


@app.task(name="bench.size_of", transactional=True)
def size_of(numbers: list[int]) -> int:
    return len(numbers)


def run_all(call: Callable[[], Any]) -> float:
    """Call, and return the seconds until no task is open."""
    from celery_ledger.models import DurableTask

    open_rows = DurableTask.objects.filter(status__in=["pending", "published", "running"])
    began = time.monotonic()
    call()
    while open_rows.exists():
        time.sleep(0.02)
    return time.monotonic() - began


def beside(task: Any) -> None:
    """Print the cost of a chord compared with the same tasks and one more: as a group, and each called by itself."""
    from celery_ledger.models import DurableTask

    ways: dict[str, Callable[[], Any]] = {
        "without": lambda: (group(task.s(n) for n in range(MEMBERS)).delay(), size_of.delay([])),
        "calls": lambda: call_each(task),
        "chord": lambda: chord([task.s(n) for n in range(MEMBERS)], size_of.s()).delay(),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(ROUNDS + 1):
        for way, call in ways.items():
            seconds = run_all(call)
            if turn:  # The first one warms up.
                times[way].append(seconds)
            DurableTask.objects.all().delete()
    without, calls, with_it = (statistics.median(times[way]) for way in ways)
    print(
        f"{task.name}: {MEMBERS} tasks as a group {without:.2f} s, as calls in a transaction {calls:.2f} s, as a chord"
        f" {with_it:.2f} s: {with_it / without:.2f}x and {with_it / calls:.2f}x",
        flush=True,
    )


def call_each(task: Any) -> None:
    """Call the tasks one by one in a transaction, and one more."""
    with transaction.atomic():
        for number in range(MEMBERS):
            task.delay(number)
        size_of.delay([])


def grow() -> None:
    """Call ever longer chains and headers, each in a separate process, and print the cost."""
    for kind in ("chain", "chord"):
        for length in LENGTHS:
            said = subprocess.run(
                [sys.executable, "-m", "bench.canvases", kind, str(length)], capture_output=True, text=True, check=True
            )
            print(said.stdout.strip(), flush=True)


def call_one(kind: str, length: int) -> None:
    """Call one, without workers, and print the duration."""
    from django.db.models import Max, TextField
    from django.db.models.functions import Cast, Length

    from celery_ledger.models import DurableTask

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps = [same.si(n) for n in range(length)]
    began = time.monotonic()
    # `chain(steps)` is the same, and copies all steps so far for each one more: Celery's own square.
    (_chain(steps) if kind == "chain" else chord(steps, size_of.s())).delay()
    seconds = time.monotonic() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    longest = DurableTask.objects.aggregate(most=Max(Length(Cast("options", TextField()))))["most"]
    print(
        f"{kind} of {length}: called in {seconds:.2f} s ({1_000_000 * seconds / length:.0f} us each),"
        f" {grown:.0f} MB more, a row's options {longest} characters"
    )


def main() -> None:
    """Run a relay, call one canvas, or measure all."""
    from django.core.management import call_command

    if sys.argv[1:2] == ["relay"]:
        call_command("relay")
        return
    from celery_ledger.models import Chord, DurableTask, Part, Step

    if len(sys.argv) == 3:
        call_one(sys.argv[1], int(sys.argv[2]))
        for model in (DurableTask, Step, Chord, Part):
            model.objects.all().delete()
        return
    call_command("migrate", verbosity=0)
    grow()
    command = [sys.executable, "-m"]
    processes = [
        subprocess.Popen([*command, "bench.canvases", "relay"], stderr=subprocess.DEVNULL),
        subprocess.Popen(
            [*command, "celery", "-A", "bench.canvases", "worker", "-c", "2", "-l", "error"], stderr=subprocess.DEVNULL
        ),
    ]
    try:
        for task in (same, same_outside):
            beside(task)
    finally:
        for process in processes:
            process.terminate()


if __name__ == "__main__":
    main()
