"""
The ledger on two PostgreSQL servers, each held to its share of CPU: throughput of two beside one, and one that dies.

A control group holds each server to ``QUOTA`` of one core, so that servers are the limit, and relay and workers have
the rest of the machine. The group's own counters say whether that was so.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.own_postgresql import OwnPostgreSQL, find_binaries
from tests.package.conftest import Redis
from tests.package.shards import Shards
from tests.processes import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]
GROUPS = Path("/sys/fs/cgroup/cpu")
ALIASES = ("default", "east")
#: The share of one core that each server has, and the tasks that each has to do.
QUOTA = float(os.environ.get("QUOTA", "0.15"))
TASKS = int(os.environ.get("TASKS", "4000"))
CHILDREN = 2
PERIOD = 100_000  # microseconds
FILL = """
    INSERT INTO celery_ledger_durabletask (id, name, queue, args, kwargs)
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(random()::text), 1, 19))::uuid, 'tests.package.sharded.tasks.keep', 'celery', '["a"]', '{}'
    FROM generate_series(1, %s)
"""


class Group:
    """A control group with a server in it."""

    def __init__(self, name: str, server: OwnPostgreSQL) -> None:
        self.place = GROUPS / name
        self.place.mkdir()
        self.server = server

    def hold(self) -> None:
        (self.place / "cpu.cfs_period_us").write_text(str(PERIOD))
        (self.place / "cpu.cfs_quota_us").write_text(str(int(QUOTA * PERIOD)))
        for child in (self.server.process.pid, *_children(self.server.process.pid)):
            with suppress(ProcessLookupError):  # It has ended since.
                (self.place / "cgroup.procs").write_text(str(child))

    def free(self) -> None:
        (self.place / "cpu.cfs_quota_us").write_text("-1")

    def figures(self) -> dict[str, int]:
        pairs = (line.split() for line in (self.place / "cpu.stat").read_text().splitlines())
        return {name: int(value) for name, value in pairs}

    def leave(self) -> None:
        self.free()
        wait_until("the group is empty", self._is_gone)

    def _is_gone(self) -> bool:
        for pid in (self.place / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (GROUPS / "cgroup.procs").write_text(pid)
        with suppress(OSError):  # A process is just beginning or ending.
            self.place.rmdir()
        return not self.place.exists()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def broker(tmp_path):
    redis = Redis(tmp_path)
    yield redis
    redis.end()


@pytest.fixture
def servers(tmp_path):
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("there are no PostgreSQL binaries on this machine")
    made = {alias: OwnPostgreSQL(tmp_path / f"{alias}.log", binaries) for alias in ALIASES}
    yield made
    for server in made.values():
        server.close()


@pytest.fixture
def project(tmp_path, servers, broker):
    said: dict[str, Any] = {
        alias: {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": str(server.port),
            "USER": "postgres",
            "NAME": "shop",
            "OPTIONS": {"connect_timeout": 2},
        }
        for alias, server in servers.items()
    }
    made = Shards(tmp_path, said, broker.url)
    made.migrate()
    yield made
    made.end()


@contextmanager
def held(servers: dict[str, OwnPostgreSQL]) -> Iterator[list[Group]]:
    if not (GROUPS / "cpu.stat").exists() and not (GROUPS / "cgroup.procs").exists():
        pytest.skip("there are no control groups (version 1) that this user may make")
    groups = [Group(f"ledger-drill-{alias}-{os.getpid()}", server) for alias, server in servers.items()]
    try:
        for group in groups:
            group.hold()
        yield groups
    finally:
        for group in groups:
            group.leave()


def ask(server: OwnPostgreSQL, sql: str, *parameters: Any) -> Any:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        answer = connection.execute(sql, parameters)
        return answer.fetchone()[0] if answer.description else None


def drain(project: Shards, servers: dict[str, OwnPostgreSQL]) -> tuple[float, list[float], float]:
    """Have all tasks done; return tasks per second, each server's throttled share of periods, and idle cores."""
    for server in servers.values():
        ask(server, "TRUNCATE celery_ledger_durabletask, sharded_effect RESTART IDENTITY CASCADE")
        ask(server, FILL, TASKS)
        ask(server, "VACUUM ANALYZE")
    watching = [psycopg.connect(server.url(), autocommit=True) for server in servers.values()]

    def done() -> list[int]:
        sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM sharded_effect_id_seq"
        return [int((connection.execute(sql).fetchone() or [0])[0]) for connection in watching]

    children = CHILDREN * len(servers)  # So that as many as ever use one server at a time.
    worker = project.start_worker(name=f"worker-{time.monotonic_ns()}", children=children)
    with held(servers) as groups:
        relay = project.start_relay(name=f"relay-{time.monotonic_ns()}")
        wait_until("the first tenth is done", lambda: all(n >= TASKS / 10 for n in done()))
        before, counted, began, idle = done(), [group.figures() for group in groups], time.monotonic(), _idle()
        wait_until("nine tenths are done", lambda: all(n >= TASKS * 0.9 for n in done()), seconds=300)
        took, after, left = time.monotonic() - began, done(), _idle() - idle
        throttled = [
            (now["nr_throttled"] - then["nr_throttled"]) / max(1, now["nr_periods"] - then["nr_periods"])
            for now, then in zip((group.figures() for group in groups), counted, strict=True)
        ]
    wait_until("all are done", lambda: done() == [TASKS] * len(servers), seconds=60)
    relay.stop()
    worker.stop()
    for connection in watching:
        connection.close()
    for server in servers.values():
        rows = "SELECT count(*) FROM celery_ledger_durabletask WHERE status = 'succeeded'"
        assert ask(server, rows) == TASKS
        assert ask(server, "SELECT count(DISTINCT task) FROM sharded_effect") == TASKS
    return (sum(after) - sum(before)) / took, throttled, left / took


def _idle() -> float:
    """Return the seconds that the machine's cores have been idle."""
    return int(Path("/proc/stat").read_text().split()[4]) / os.sysconf("SC_CLK_TCK")


def test_two_servers_do_more_than_one(tmp_path, servers, broker, project, say):
    one = dict(list(servers.items())[:1])
    alone = Shards(tmp_path, {"default": project.said["default"]}, broker.url)
    for its in (alone, project):  # How many tasks share a transaction depends on how slow the server is.
        its.environment["LEDGER_RIDES"] = "0"
    rates: dict[str, list[float]] = {"one": [], "two": []}
    try:
        for _ in range(int(os.environ.get("ROUNDS", "2"))):
            for name, its, of in (("one", alone, one), ("two", project, servers)):
                rate, throttled, idle = drain(its, of)
                rates[name].append(rate)
                shares = ", ".join(f"{share:.0%}" for share in throttled)
                say(f"{name}: {rate:.0f} tasks a second; throttled in {shares} of periods; {idle:.2f} cores idle")
    finally:
        alone.end()
    ratio = max(rates["two"]) / max(rates["one"])
    say(f"two servers, each held to {QUOTA:g} of a core: {ratio:.2f} times one")
    assert ratio >= 1.7


def test_one_server_is_away(servers, project, say):
    """One dies, the other goes on; it comes back, and everything is done once."""
    project.start_relay()
    project.start_worker()
    call = "handles = [keep.apply_async((f'{alias} {n}',), using=alias) for n in range(100)]"
    project.shell(f"alias = 'east'; {call}; [handle.get(timeout=60) for handle in handles]")
    project.shell(f"alias = 'east'; {call.replace('using=alias', 'using=alias, countdown=5')}")
    servers["east"].stop_at_once()
    began = time.monotonic()
    took = project.shell(
        f"import time; began = time.monotonic(); alias = 'default'; {call}\n"
        "[handle.get(timeout=60) for handle in handles]; print(json.dumps(time.monotonic() - began))"
    )
    time.sleep(max(0.0, 15 - (time.monotonic() - began)))
    lags = project.shell(
        """
import time
lags = []
for n in range(40):
    began = time.monotonic()
    keep.apply_async((f"later {n}",), using="default").get(timeout=60)
    lags.append(time.monotonic() - began)
print(json.dumps(sorted(lags)))
"""
    )
    servers["east"].start()
    assert ask(servers["east"], "SELECT count(*) FROM sharded_effect") <= 110, "it went away too late"
    healed = wait_until(
        "east is done",
        lambda: ask(servers["east"], "SELECT count(DISTINCT task) FROM sharded_effect") == 200,
        seconds=60,
    )
    assert ask(servers["east"], "SELECT count(*) FROM sharded_effect") == 200
    assert ask(servers["default"], "SELECT count(*) FROM sharded_effect") == 140
    assert all(process.is_alive for process in project.processes)
    say(
        f"one away: 100 tasks of the other done in {took:.1f} s, then one after the other in {lags[20]:.3f} s (median) "
        f"and {lags[-1]:.2f} s (longest); the rest {healed:.1f} s after it was back; nothing lost or repeated"
    )
