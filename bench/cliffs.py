"""
Cases in which ordinary tasks that ride together could be slower than alone, or than plain Celery's.

``make bench-cliffs``. One relay, one worker of four processes, a PostgreSQL (``BENCH_DATABASE``: a database that may be
emptied) and a Redis (``BENCH_REDIS``). Rounds alternate; figures are medians, and ratios those of a round.

hot: each task updates three of twenty rows, in random order. failing: one task in a hundred fails, and one in a
thousand takes two seconds. names: fifty tasks over twelve queues, a few thousand rows pending and many. urgent: how
long a task of priority 0 waits behind a backlog of its queue.
"""

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
from celery import Celery
from django.conf import settings
from environ import Env

_DATABASE = os.environ.get("BENCH_DATABASE", "postgres://postgres@127.0.0.1/bench_cliffs")
#: ``ride``, ``alone`` or ``plain``: how this process's tasks run.
WAY = os.environ.get("BENCH_WAY", "ride")
settings.configure(
    SECRET_KEY="of no importance",
    INSTALLED_APPS=["celery_ledger"],
    DATABASES={"default": Env.db_url_config(_DATABASE)},
    USE_TZ=True,
    LEDGER_RIDES=WAY == "ride",
    CELERY_DB_REUSE_MAX=1_000_000_000,
)
app = Celery("cliffs", **({} if WAY == "plain" else {"task_cls": "celery_ledger:Task"}))
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(broker_url=os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/15"))
django.setup()
app.autodiscover_tasks(["celery_ledger"], force=True)

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
#: Tasks per round, and pending rows in the cases with many.
TASKS = int(os.environ.get("BENCH_TASKS", "4000"))
MANY = int(os.environ.get("BENCH_MANY", "1000000"))
HOT_ROWS, NAMES, QUEUES = 20, 50, 12
OPTIONS: dict[str, Any] = {} if WAY == "plain" else {"transactional": True}
FILL = """
    INSERT INTO celery_ledger_durabletask (id, name, queue, status, args, kwargs, created_at, available_at, attempts)
    SELECT gen_random_uuid(), format(%(name)s, n %% %(names)s), format(%(queue)s, n %% %(queues)s), 'pending',
           jsonb_build_array(n), '{}', moment, moment, 0
    FROM generate_series(1, %(rows)s) AS n
    CROSS JOIN LATERAL (SELECT now() - interval '1 hour' + n * interval '1 millisecond' AS moment) AS at
"""


def _run(sql: str, *parameters: Any) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


@app.task(name="cliffs.heat", **OPTIONS)
def heat(number: int) -> None:
    from django.db import transaction

    with transaction.atomic():
        for row in random.sample(range(HOT_ROWS), 3):
            _run("UPDATE cliffs_hot SET n = n + 1 WHERE id = %s", row)
    _run("INSERT INTO cliffs_effect (number) VALUES (%s)", number)


@app.task(name="cliffs.stumble", **OPTIONS)
def stumble(number: int) -> None:
    if number % 100 == 0:
        raise ValueError("one in a hundred")
    if number % 1000 == 500:
        time.sleep(2)
    _run("INSERT INTO cliffs_effect (number) VALUES (%s)", number)


def _note(number: int) -> None:
    _run("INSERT INTO cliffs_effect (number) VALUES (%s)", number)


named = [app.task(name=f"cliffs.named_{number}", **OPTIONS)(_note) for number in range(NAMES)]


def main() -> None:
    """Run a relay or a producer of plain Celery's tasks, or measure the named cases, by default all."""
    from django.core.management import call_command

    if sys.argv[1:2] == ["relay"]:
        call_command("relay")
    elif sys.argv[1:2] == ["produce"]:
        for number in range(1, TASKS + 1):
            app.tasks[sys.argv[2]].delay(number)
    else:
        call_command("migrate", verbosity=0)
        _run("CREATE TABLE IF NOT EXISTS cliffs_effect (number int, at timestamptz DEFAULT clock_timestamp())")
        _run("CREATE TABLE IF NOT EXISTS cliffs_hot (id int PRIMARY KEY, n int)")
        _run("INSERT INTO cliffs_hot SELECT n, 0 FROM generate_series(0, %s) AS n ON CONFLICT DO NOTHING", HOT_ROWS)
        parts: dict[str, Callable[[], None]] = {"hot": hot, "failing": failing, "names": names, "urgent": urgent}
        for part in sys.argv[1:] or parts:
            parts[part]()


def hot() -> None:
    # Some are the victims of deadlocks.
    _beside("hot", heat.name, ("ride", "plain", "alone"), most=TASKS * 95 // 100)


def failing() -> None:
    _beside("failing", stumble.name, ("ride", "plain"), most=TASKS - TASKS // 100)


def names() -> None:
    """Drain as many rows among few and among many."""
    rates: dict[int, list[float]] = {TASKS: [], MANY: []}
    for _ in range(ROUNDS):
        for rows, found in rates.items():
            _empty()
            _fill("cliffs.named_%s", rows, names=NAMES, queue="queue-%s", queues=QUEUES)
            with _workers("ride", [f"queue-{number}" for number in range(QUEUES)]):
                _wait(TASKS)
            found.append(_rate(TASKS))
    few, many = rates.values()
    _say(f"names: {TASKS} pending", few)
    _say(f"names: {MANY} pending", many, few)


def urgent() -> None:
    """Call a task of priority 0 behind a backlog, and see when it is done."""
    waits = []
    _empty()
    _fill("cliffs.named_%s", 100_000, names=1)
    with _workers("ride"):
        _wait(TASKS // 4)
        for number in range(20):
            began = time.monotonic()
            named[1].apply_async([-1 - number], priority=0)
            while not _count("WHERE number = %s", -1 - number):
                time.sleep(0.002)
            waits.append(1000 * (time.monotonic() - began))
    _say("urgent: ms behind 100,000", waits)


def _beside(title: str, name: str, ways: tuple[str, ...], *, most: int) -> None:
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, found in rates.items():
            _empty()
            if way == "plain":
                environment = {**os.environ, "BENCH_WAY": way}
                subprocess.run([sys.executable, "-m", "bench.cliffs", "produce", name], env=environment, check=True)
            else:
                _fill(name, TASKS)
            with _workers(way):
                _wait(most)
            found.append(_rate(most))
    for way, found in rates.items():
        _say(f"{title}: {way}", found, rates[ways[-1]])


@contextmanager
def _workers(way: str, queues: list[str] | None = None) -> Iterator[None]:
    environment = {**os.environ, "BENCH_WAY": way}
    worker = [sys.executable, "-m", "celery", "-A", "bench.cliffs", "worker", "-c", "4", "-l", "critical"]
    commands = [[*worker, "-Q", ",".join(queues)] if queues else worker]
    if way != "plain":
        commands.append([sys.executable, "-m", "bench.cliffs", "relay"])
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for command in commands]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _empty() -> None:
    with app.connection_for_write() as link:
        link.default_channel.client.flushdb()
    _run("TRUNCATE cliffs_effect, celery_ledger_durabletask, celery_ledger_result, celery_ledger_pace CASCADE")


def _fill(name: str, rows: int, *, names: int = 1, queue: str = "celery", queues: int = 1) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        wanted: dict[str, Any] = {"name": name, "names": names, "queue": queue, "queues": queues, "rows": rows}
        cursor.execute(FILL, wanted)
        cursor.execute("VACUUM ANALYZE celery_ledger_durabletask")


def _count(where: str = "", *parameters: Any) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM cliffs_effect {where}", parameters)
        return int(cursor.fetchone()[0])


def _wait(effects: int) -> None:
    seen, since = 0, time.monotonic()
    while (count := _count()) < effects:
        if count != seen:
            seen, since = count, time.monotonic()
        if time.monotonic() - since > 60:
            raise SystemExit(f"Nothing happened for a minute, at {count} of {effects} effects.")
        time.sleep(0.02)


def _rate(first: int) -> float:
    """Return effects per second since the first one, over the first few."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) / extract(epoch FROM max(at) - min(at))"
            " FROM (SELECT at FROM cliffs_effect ORDER BY at LIMIT %s) AS earliest",
            [first],
        )
        return float(cursor.fetchone()[0])


def _say(what: str, found: list[float], beside: list[float] | None = None) -> None:
    line = f"{what}: {statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f})"
    if beside is not None and beside is not found:
        ratios = [one / other for one, other in zip(found, beside, strict=True)]
        line += f", {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
    print(line, flush=True)


if __name__ == "__main__":
    main()
