"""
``python -m bench.chaos``: the same orders and the same kills for this project and its peers, and the outcome.

One plan is derived from the seed and used for every contender: every few seconds the web process, a worker (the whole
group), the relay or a worker's child is killed and started again half a second later; half-way, Redis is restarted
without its data; one receiver of the order's signal has a bug. Four numbers: acknowledged orders that are missing;
tasks not done after PATIENCE seconds without any effect; effects that happened more than once; seconds from the last
order to the last effect. What waits in Redis for its visibility timeout (an hour, by Celery's default) counts as not
done, and is counted alongside.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import contenders
from bench.__main__ import DEFAULT_DATABASE, prepare, say
from bench.contender import PYTHON, Command, Contender
from bench.database import Database
from bench.processes import ROOT, Bench
from bench.redis_server import RedisServer

RESULTS = ROOT / "bench" / "results" / "chaos"
KILLS = ("web", "worker", "relay", "child")
SECONDS_BETWEEN_KILLS = (2.0, 4.0)
RESTART_AFTER = 0.5  # seconds, as a supervisor does
PATIENCE = 75.0  # seconds without any effect: longer than this project's leases


@dataclass(frozen=True)
class Planned:
    """What is killed, and after how many seconds."""

    at: float
    what: str


def plan_of(seed: int, seconds: float) -> list[Planned]:
    """Return the kills, and the restart of Redis in the middle. Each kind occurs before any is repeated."""
    chance = random.Random(seed)
    plan, at, deck = [], 0.0, []
    while True:
        at += chance.uniform(*SECONDS_BETWEEN_KILLS)
        if at >= seconds:
            break
        deck = deck or chance.sample(KILLS, len(KILLS))
        plan.append(Planned(at, deck.pop()))
    return sorted([*plan, Planned(seconds / 2, "redis")], key=lambda planned: planned.at)


class Kept:
    """A process that is started again when it has died."""

    def __init__(self, bench: Bench, contender: Contender, command: Command, role: str) -> None:
        self.bench, self.contender, self.command, self.role = bench, contender, command, role
        self.extra: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at = 0.0

    def keep(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self.start_at = time.monotonic() + RESTART_AFTER
        if self.process is None and time.monotonic() >= self.start_at:
            self.start()

    def start(self) -> None:
        with (self.bench.logs / f"{self.contender.name}-{self.role}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**self.bench.environment(self.contender), **self.extra},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return True

    def kill_child(self) -> bool:
        if self.process is None:
            return False
        answer = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        for pid in map(int, answer.stdout.split()[:1]):
            os.kill(pid, signal.SIGKILL)
            return True
        return False


def endure(
    bench: Bench, database: Database, broker: RedisServer, contender: Contender, orders: int, rate: float, seed: int
) -> dict[str, Any]:
    """Place orders with one contender while its processes are killed, and count the outcome."""
    broker.empty()
    database.empty(contender.tables)
    ledger = bench.logs / f"{contender.name}.ledger"
    ledger.touch()
    workers = [Kept(bench, contender, command, f"worker-{n}") for n, command in enumerate(contender.workers)]
    relays = [Kept(bench, contender, contender.relay, "relay")] if contender.relay else []
    landed: dict[str, int] = dict.fromkeys([*KILLS, "redis"], 0)
    kept = [*workers, *relays]
    for each in kept:
        each.start()
    time.sleep(5)  # They are ready before the first order.
    web = Kept(bench, contender, (PYTHON,), "web")
    web.extra = {"BENCH_PLACES_ORDERS": "1"}
    plan = plan_of(seed, orders / rate)
    began = time.monotonic()
    try:
        while (first := told_of(ledger)[1] + 1) < orders:
            web.command = (PYTHON, "-m", "bench.customer", *map(str, (first, orders, rate, seed + first)), str(ledger))
            for each in [*kept, web]:
                each.keep()
            while plan and time.monotonic() - began >= plan[0].at:
                planned = plan.pop(0)
                landed[planned.what] += _inflict(planned.what, web, workers, relays, broker)
            time.sleep(0.05)
        placed_at = time.time()
        while time.time() - max(placed_at, database.last_effect_at()) < PATIENCE and not _is_done(database):
            for each in kept:
                each.keep()
            time.sleep(0.2)
    finally:
        for each in [*kept, web]:
            each.kill()
    told, _ = told_of(ledger)
    there = {row[0] for row in database.connection.execute("SELECT id FROM bench_order").fetchall()}
    exact = database.exactness()
    return {
        "orders_told_of": len(told),
        "orders_missing": len(told - there),
        "orders_nobody_was_told_of": len(there - told),
        "tasks_not_done": exact["missing"],
        "of_which_wait_for_redis": int(broker.client.hlen("unacked")),
        "effects_doubled": exact["doubled"],
        "drain_seconds": round(max(0.0, database.last_effect_at() - placed_at), 1),
        "refusals": ledger.read_text().count("refused"),
        "landed": landed,
    }


def told_of(ledger: Path) -> tuple[set[int], int]:
    """Return the ids of acknowledged orders, and the number of the last one."""
    lines = [line.split() for line in ledger.read_text().splitlines()]
    answered = [line for line in lines if len(line) == 2 and line[1] != "refused"]
    return {int(id) for _, id in answered}, max((int(number) for number, _ in answered), default=-1)


def _inflict(what: str, web: Kept, workers: list[Kept], relays: list[Kept], broker: RedisServer) -> int:
    if what == "redis":
        broker.process.kill()
        broker.process.wait()
        broker.start()
        return 1
    if what == "relay":
        return sum(relay.kill() for relay in relays)
    if what == "child":
        return int(workers[0].kill_child())
    return int(web.kill() if what == "web" else workers[0].kill())


def _is_done(database: Database) -> bool:
    return database.exactness()["missing"] == 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=20, help="orders per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help=f"contenders, with commas, of {', '.join(contenders.IN_CHAOS)}")
    options = parser.parse_args()
    chosen = [contenders.load(name) for name in (options.only.split(",") if options.only else contenders.IN_CHAOS)]
    found: dict[str, dict[str, Any]] = {}
    broker = RedisServer()
    try:
        database = Database(os.environ.get("BENCH_DATABASE_URL", DEFAULT_DATABASE))
        with tempfile.TemporaryDirectory(prefix="bench-") as logs:
            bench = Bench(database.url, broker.url, Path(logs))
            prepare(bench, database, chosen)
            for contender in chosen:
                say(f"{contender.title}: {options.orders} orders, seed {options.seed}")
                found[contender.name] = endure(
                    bench, database, broker, contender, options.orders, options.rate, options.seed
                )
                say(f"  {found[contender.name]}")
    finally:
        broker.stop()
    RESULTS.mkdir(parents=True, exist_ok=True)
    written = RESULTS / f"seed-{options.seed}.json"
    written.write_text(json.dumps({"options": vars(options), "found": found}, indent=2) + "\n")
    print(table(found, chosen))
    say(f"Written to {written}")


def table(found: dict[str, dict[str, Any]], chosen: list[Contender]) -> str:
    """Return the four numbers of each as Markdown."""
    lines = [
        "| | acknowledged orders missing | tasks not done (waiting in Redis) | duplicate effects | seconds to drain |",
        "|---|---|---|---|---|",
    ]
    for contender in chosen:
        row = found[contender.name]
        lines.append(
            f"| {contender.title} | {row['orders_missing']} | {row['tasks_not_done']} "
            f"({row['of_which_wait_for_redis']}) | {row['effects_doubled']} | {row['drain_seconds']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
