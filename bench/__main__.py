"""``python -m bench``: run the contenders side by side and write the results to bench/results/."""

import argparse
import os
import random
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench import contenders, report
from bench.broker_away import broker_away
from bench.database import Database
from bench.floors import floors
from bench.growth import growth
from bench.processes import Bench
from bench.redis_server import RedisServer
from bench.size import FULL, QUICK
from bench.stages import STAGES, Turn

DEFAULT_DATABASE = "postgres://postgres@127.0.0.1:5432/shopwire_bench"
QUICK_CONTENDERS = ("shopwire", "celery_on_commit", "celery_on_commit_tuned")
PARTS = ("rounds", "floors", "growth", "broker")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="check in under a minute that the bench runs; measures nothing"
    )
    parser.add_argument("--rounds", type=int, help=f"default {FULL.rounds}")
    parser.add_argument("--only", help=f"contenders, with commas, of {', '.join(contenders.NAMES)}")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"with commas, of {', '.join(PARTS)}")
    parser.add_argument(
        "--stages", default=",".join(STAGES), help=f"what of a round follows the drain, of {', '.join(STAGES)}, or none"
    )
    parser.add_argument("--backlog", type=int, help="orders of the drain, times the contender's own factor")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which contenders run")
    options = parser.parse_args()

    size = QUICK if options.quick else FULL
    if options.rounds:
        size = replace(size, rounds=options.rounds)
    if options.backlog:
        size = replace(size, backlog_orders=options.backlog)
    names = options.only.split(",") if options.only else QUICK_CONTENDERS if options.quick else contenders.NAMES
    chosen = [contenders.load(name) for name in names]
    parts = options.parts.split(",")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("The bench was told to end."))
    broker = RedisServer()
    try:
        database = Database(os.environ.get("BENCH_DATABASE_URL", DEFAULT_DATABASE))
        with tempfile.TemporaryDirectory(prefix="bench-") as logs:
            bench = Bench(database.url, broker.url, Path(logs))
            results = report.begin(database, broker, size)
            prepare(bench, database, chosen)
            turn = Turn(bench, database, broker, size, options.stages.split(","))
            order = random.Random(options.seed)
            for number in range(size.rounds if "rounds" in parts else 0):
                results["rounds"].append({})
                for contender in order.sample(chosen, len(chosen)):
                    say(f"round {number + 1} of {size.rounds}: {contender.name}")
                    figures = turn.run(contender)
                    figures["load_average"] = os.getloadavg()[0]
                    results["rounds"][-1][contender.name] = figures
                    say(report.line(figures))
            if "floors" in parts:
                say("floors")
                results["floors"] = floors(database, broker, size)
            if "growth" in parts and size.growth:
                results["growth"] = growth(bench, database, broker, size, say)
            if "broker" in parts and size.broker_orders:
                results["broker_away"] = broker_away(bench, database, broker, size, say)
            folder = report.write(results, report.QUICK_RESULTS if options.quick else report.RESULTS)
    finally:
        broker.stop()
    say(f"Written to {folder}")


def prepare(bench: Bench, database: Database, chosen: list[contenders.Contender]) -> None:
    """Create every contender's tables, and the catalogue."""
    for contender in chosen:
        done = bench.manage(contender, "migrate", "--run-syncdb", "-v", "0")
        if done.returncode:
            raise SystemExit(f"The tables of {contender.name} could not be created:\n{done.stderr[-2000:]}")
    database.fill_catalogue()


if __name__ == "__main__":
    main()
