"""
Random faults, several at once: ``make chaos SEED=7 MINUTES=10``.

The plan of faults is made of the seed before anything breaks, and printed: the same seed breaks the same things
at the same times. Customers order over HTTP throughout, and the database is checked against their record.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from django.db import connection

from celery_ledger.models import DurableTask
from store.models import Order
from tests.faults.buyers import Buyers
from tests.faults.invariants import broken, doubled, settle
from tests.processes import Machine, Process, free_port, wait_until
from tests.tcp_proxy import TcpProxy, tcp_proxy

SEED = int(os.environ.get("CHAOS_SEED", "1"))
MINUTES = float(os.environ.get("CHAOS_MINUTES", "2"))
SECONDS_BETWEEN_FAULTS = (2.0, 6.0)

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow_fault,
    pytest.mark.processes,
    pytest.mark.postgresql,
    pytest.mark.timeout(MINUTES * 60 + 900),
]


@dataclass(frozen=True)
class Planned:
    """A fault to come: so many seconds after the one before, lasting so long where it lasts."""

    after: float
    fault: str
    seconds: float
    target: int


class Kept:
    """A process that is started again when it dies, as a supervisor does."""

    def __init__(self, start: Callable[[], Process]) -> None:
        self.start = start
        self.process = start()
        self.restarts = 0

    def keep(self) -> None:
        if not self.process.is_alive:
            self.process = self.start()
            self.restarts += 1


class Chaos:
    """What can be broken, by name. Each fault returns whether it landed."""

    def __init__(self, machine: Machine, server, mail_server, database: TcpProxy, broker: TcpProxy) -> None:
        self.machine, self.server, self.mail_server = machine, server, mail_server
        self.database, self.broker = database, broker
        port = free_port()
        self.web = Kept(lambda: machine.start_web(port, wait=False))
        self.relays = [Kept(lambda: machine.start_relay(wait=False)) for _ in range(2)]
        self.workers = [Kept(lambda: machine.start_worker(wait=False)) for _ in range(2)]
        self.beat = Kept(lambda: machine.start_beat(wait=False))
        self.healing: list[threading.Timer] = []

    @property
    def kept(self) -> list[Kept]:
        return [self.web, *self.relays, *self.workers, self.beat]

    def inflict(self, plan: Planned) -> bool:
        return bool(getattr(self, plan.fault)(plan))

    # --- Processes ---

    def kill_web(self, plan: Planned) -> bool:
        return self._kill(self.web)

    def kill_relay(self, plan: Planned) -> bool:
        return self._kill(self.relays[plan.target % 2])

    def kill_worker(self, plan: Planned) -> bool:
        return self._kill(self.workers[plan.target % 2])

    def kill_beat(self, plan: Planned) -> bool:
        return self._kill(self.beat)

    def kill_child(self, plan: Planned) -> bool:
        children = self.workers[plan.target % 2].process.children()
        for child in children[:1]:
            os.kill(child, signal.SIGKILL)
        return bool(children)

    def freeze_worker(self, plan: Planned) -> bool:
        process = self.workers[plan.target % 2].process
        process.kill(signal.SIGSTOP)
        self._later(plan.seconds, lambda: process.kill(signal.SIGCONT))
        return process.is_alive

    def freeze_relay(self, plan: Planned) -> bool:
        process = self.relays[plan.target % 2].process
        process.kill(signal.SIGSTOP)
        self._later(plan.seconds, lambda: process.kill(signal.SIGCONT))
        return process.is_alive

    def _kill(self, kept: Kept) -> bool:
        was_alive = kept.process.is_alive
        kept.process.kill()
        return was_alive and not kept.process.is_alive

    # --- Broker ---

    def restart_redis_empty(self, plan: Planned) -> bool:
        self.machine.stop_broker()
        self.machine.start_broker()
        return True

    def flush_redis(self, plan: Planned) -> bool:
        self.machine.flush_broker()
        return True

    def freeze_redis(self, plan: Planned) -> bool:
        process = self.machine.broker
        process.kill(signal.SIGSTOP)
        self._later(plan.seconds, lambda: process.kill(signal.SIGCONT))
        return process.is_alive

    def fill_redis(self, plan: Planned) -> bool:
        client = redis.Redis(port=self.machine.redis_port, socket_timeout=5)
        try:
            client.config_set("maxmemory", 1)
        except redis.RedisError:  # It is frozen, which is enough for it.
            return False
        self._later(plan.seconds, lambda: client.config_set("maxmemory", 0))
        return True

    def cut_broker(self, plan: Planned) -> bool:
        return self.broker.cut() > 0

    def drop_publish_answer(self, plan: Planned) -> bool:
        self.broker.drop_answer_to(b"LPUSH")
        return True

    # --- Database ---

    def cut_database(self, plan: Planned) -> bool:
        return self.database.cut() > 0

    def hang_database(self, plan: Planned) -> bool:
        self.database.hang()
        self._later(plan.seconds, self.database.let_through)
        return True

    def drop_commit_answer(self, plan: Planned) -> bool:
        self.database.drop_answer_to(b"COMMIT")
        return True

    def terminate_backends(self, plan: Planned) -> bool:
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as admin:
            cursor = admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            return cursor.fetchone()[0] > 0

    def restart_database(self, plan: Planned) -> bool:
        self.server.restart(seconds_away=min(plan.seconds, 2))
        return True

    # --- Mail ---

    def busy_mail_server(self, plan: Planned) -> bool:
        self.mail_server.answers.extend(["451 busy"] * 3)
        return True

    def lose_mail_answer(self, plan: Planned) -> bool:
        self.mail_server.answers.append("drop")
        return True

    def _later(self, seconds: float, heal: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, heal)
        timer.start()
        self.healing.append(timer)

    def end(self) -> None:
        """No more faults: all is let go, and what is dead is started once more."""
        for timer in self.healing:
            timer.join()
        for kept in self.kept:
            kept.keep()


FAULTS = [name for name in vars(Chaos) if name[0] != "_" and name not in {"kept", "inflict", "end"}]
#: Under these, a worker may have been torn from a mail server before it read the answer or could record it.
TEARING = {
    "kill_worker",
    "kill_child",
    "freeze_worker",
    "cut_database",
    "hang_database",
    "terminate_backends",
    "restart_database",
    "drop_commit_answer",
}


def plan_of(seed: int, minutes: float) -> list[Planned]:
    """Return what will happen. Every fault comes before any comes again."""
    chance = random.Random(seed)
    plan: list[Planned] = []
    left = minutes * 60
    deck: list[str] = []
    while left > 0:
        if not deck:
            deck = random.Random(chance.random()).sample(FAULTS, len(FAULTS))
        pause = chance.uniform(*SECONDS_BETWEEN_FAULTS)
        plan.append(Planned(pause, deck.pop(), chance.uniform(0.5, 8.0), chance.randrange(2)))
        left -= pause
    return plan


def test_chaos_loses_nothing_and_doubles_nothing(own_postgresql, machine, mail_server):
    plan = plan_of(SEED, MINUTES)
    buyers = Buyers(int(MINUTES * 60 * 9) + 50, seed=SEED, customers=25)
    DurableTask.objects.all().delete()  # The customers' welcomes are not what this is about.
    broker_url = urlsplit(machine.environment["REDIS_URL"])
    with (
        tcp_proxy("127.0.0.1", own_postgresql.port) as database,
        tcp_proxy("127.0.0.1", broker_url.port) as broker,
    ):
        machine.environment["DATABASE_URL"] = own_postgresql.url().replace(
            f":{own_postgresql.port}", f":{database.port}"
        )
        machine.environment["REDIS_URL"] = f"redis://127.0.0.1:{broker.port}/0"
        chaos = Chaos(machine, own_postgresql, mail_server, database, broker)
        wait_until("all answer", lambda: all(kept.process.is_alive for kept in chaos.kept))
        buyers.begin(machine.web_url, at_once=3, pause=0.3, patience=180)
        began = time.monotonic()
        landed: Counter[str] = Counter()
        for planned in plan:
            wait_for(planned.after, chaos)
            landed[planned.fault] += chaos.inflict(planned)
        broken_for = time.monotonic() - began
        chaos.end()
        connection.close()
        buyers.stop()
        for kept in chaos.kept:
            kept.keep()
        took = settle(seconds=240)
        verdict = machine.run_command("outbox", "verify", DATABASE_URL=own_postgresql.url())
        second_copies = doubled(mail_server.received)
        violations = broken(buyers, mail_server.received)
        print(
            f"chaos: seed {SEED}, {broken_for / 60:.1f} min, {sum(landed.values())} of {len(plan)} faults landed\n"
            f"  faults {dict(sorted(landed.items()))}\n"
            f"  restarts {sum(kept.restarts for kept in chaos.kept)}; answers {dict(buyers.statuses())}; "
            f"checkout p50 {buyers.slowest(0.5) * 1000:.0f} ms, p99 {buyers.slowest() * 1000:.0f} ms\n"
            f"  {Order.objects.count()} orders, {len(buyers.told)} told of, {DurableTask.objects.count()} tasks, "
            f"{len(mail_server.received)} mails of which {second_copies} are second copies "
            f"({len(mail_server.unanswered)} replies lost by the server)\n"
            f"  settled {took:.1f} s after the last order; {len(violations)} invariants broken"
        )
    assert violations == []
    assert verdict.returncode == 0, verdict.stdout
    assert second_copies <= len(mail_server.unanswered) + sum(landed[fault] for fault in TEARING)


def wait_for(seconds: float, chaos: Chaos) -> None:
    """Let so many seconds pass, restarting what dies meanwhile."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for kept in chaos.kept:
            kept.keep()
        time.sleep(0.2)
