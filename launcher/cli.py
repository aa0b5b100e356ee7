"""The commands of ``run.py``."""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from launcher import configuration, demo, environment
from launcher.console import say
from launcher.places import PYTHON, ROOT, VAR
from launcher.shop import SLOW_START, Shop, answers
from launcher.supervisor import Program, Supervisor
from launcher.valkey import Valkey

LOCK = VAR / "run.lock"


def main(arguments: Sequence[str]) -> int:
    """Run the command line, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Start Shopwire on this machine; nothing but Python is needed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Settings come from the environment or from .env; .env.example lists them.",
    )
    verbs = parser.add_subparsers(dest="verb", title="verbs", metavar="VERB")
    verbs.add_parser("run", help="start everything and keep it running (the default)")
    verbs.add_parser("demo", help="place one order, show the outcome of each of its tasks, and stop")
    verbs.add_parser("test", help="run the suite; further arguments go to pytest", add_help=False)
    known, rest = parser.parse_known_args(arguments)
    if rest and known.verb != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    # Until the supervisor takes over: end at once, together with every process that was started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        if known.verb == "demo":
            return run_demo()
        if known.verb == "test":
            return run_tests(rest)
        return run()
    except KeyboardInterrupt:
        say("\nStopped.")
        return 130


def run() -> int:
    with lock() as held:
        if held is None:
            url = f"http://127.0.0.1:{configuration.read_env(configuration.RUN_ENV).get('PORT', '?')}/"
            say(f"Shopwire is already running (process {LOCK.read_text().strip()}, {url}). Stop it first.")
            return 1
        with Shop(held) as shop:
            if shop.start():
                shop.introduce()
                shop.supervisor.watch()
            return 0 if shop.supervisor.stop_asked else 1


def run_demo() -> int:
    """Demonstrate an order in the running shop, or start one."""
    with lock() as held:
        if held is None:
            say("Shopwire is already running; placing the order there.")
            return demo_elsewhere()
        with Shop(held) as shop:
            return demo.place_order(shop.port, shop.supervisor.tick) if shop.start() else 1


def demo_elsewhere() -> int:
    deadline = time.monotonic() + SLOW_START
    while time.monotonic() < deadline:
        port = int(configuration.read_env(configuration.RUN_ENV).get("PORT", "0"))
        if port and answers(port, "/health/ready/"):
            return demo.place_order(port, time.sleep)
        time.sleep(0.5)
    say("It does not answer.")
    return 1


def run_tests(arguments: list[str]) -> int:
    """Run pytest, with a separate broker unless one was named, and return its exit code."""
    environment.ensure("requirements-dev.txt")
    with tempfile.TemporaryDirectory(prefix="shopwire-") as folder:
        supervisor = Supervisor(Path(folder))
        variables = {"DEBUG": "1", **os.environ}
        try:
            if "REDIS_URL" not in variables:
                valkey = Valkey(Path(folder))
                variables["REDIS_URL"] = valkey.url
                supervisor.start(Program("valkey", valkey.command, lambda _: valkey.answers()))
            while supervisor.unanswered() and not supervisor.stop_asked:
                supervisor.tick(0.05)
            # Many tests wait for their own processes, so two cores can run three at once. In small portions, so that
            # they end together.
            three_at_once = ("-n", "3", "--maxschedchunk", "8")
            pytest = subprocess.Popen([PYTHON, "-m", "pytest", *three_at_once, *arguments], cwd=ROOT, env=variables)
            while pytest.poll() is None:
                supervisor.tick()
                if supervisor.stop_asked:
                    pytest.terminate()
            return pytest.returncode
        finally:
            supervisor.stop()


@contextmanager
def lock() -> Iterator[TextIO | None]:
    """Lock ``var/run.lock``, which marks this folder's shop as running; None if it is locked already."""
    VAR.mkdir(exist_ok=True)
    with LOCK.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file
