"""A primary that dies under load, and a standby that takes its place; a synchronous standby that is away."""

import time
from datetime import UTC, datetime

import httpx
import psycopg
import pytest

from tests.drills.count import OPEN, count, one, settle
from tests.drills.replica import OwnHAProxy, Standby, find_haproxy
from tests.faults.buyers import Buyers
from tests.processes import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.processes, pytest.mark.postgresql, pytest.mark.timeout(900)]


@pytest.fixture
def standby(own_postgresql, tmp_path):
    """A standby without which the primary confirms no commit."""
    follower = Standby(own_postgresql, tmp_path / "standby.log", synchronous_standby_names="")
    with psycopg.connect(own_postgresql.url(), autocommit=True) as link:
        link.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        link.execute("SELECT pg_reload_conf()")
    yield follower
    follower.close()


@pytest.fixture(params=["haproxy", "two hosts"])
def place(request, own_postgresql, standby, tmp_path):
    """The address of whichever of the two takes writes."""
    if request.param == "two hosts":
        hosts = f"127.0.0.1:{own_postgresql.port},127.0.0.1:{standby.port}"
        yield f"postgres://postgres@{hosts}/shop?target_session_attrs=read-write"
        return
    program = find_haproxy()
    if program is None:
        pytest.skip("there is no haproxy")
    proxy = OwnHAProxy(program, own_postgresql, standby, tmp_path / "haproxy.log")
    yield proxy.url
    proxy.close()


@pytest.mark.parametrize("undecided", [3, 30])
def test_a_primary_that_dies_loses_no_order_and_no_task(
    own_postgresql, standby, place, machine, mail_server, say, undecided
):
    machine.environment["DATABASE_URL"] = place
    processes = start_all(machine)
    buyers = Buyers(200)
    buyers.begin(machine.web_url, at_once=3, pause=0.4)
    wait_until("orders are placed", lambda: len(buyers.told) >= 50)
    own_postgresql.stop_at_once()
    died = time.monotonic()
    time.sleep(undecided)  # What a manager of failovers takes to be sure.
    standby.promote()
    promoted, before = time.monotonic(), datetime.now(tz=UTC)
    told, done = len(buyers.told), one(standby.url(), SUCCEEDED)
    wait_until("an order is taken again", lambda: len(buyers.told) > told, seconds=60)
    ordering = time.monotonic() - promoted
    wait_until("a task is done again", lambda: one(standby.url(), SUCCEEDED) > done)
    working = time.monotonic() - promoted
    left = one(standby.url(), OPEN_BEFORE, before)
    wait_until("what was under way is done", lambda: one(standby.url(), OPEN_BEFORE, before) == 0)
    caught_up = time.monotonic() - promoted
    buyers.join()
    settle(standby.url())
    found = count(standby.url(), buyers, mail_server.received)
    say(
        f"{found}; promoted {promoted - died:.1f} s after the death; an order again {ordering:.1f} s, a task "
        f"{working:.1f} s, the {left} tasks of before {caught_up:.1f} s after the promotion; "
        f"answers {dict(buyers.statuses())}, slowest {buyers.slowest(1):.1f} s"
    )
    assert all(process.is_alive for process in processes)
    assert found.is_clean
    assert len(buyers.told) == 200
    assert max(ordering, working) < 10
    assert caught_up < 15


def test_a_standby_that_is_away_is_named_and_everybody_is_answered(own_postgresql, standby, machine, mail_server, say):
    processes = start_all(machine)
    buyers = Buyers(150)
    buyers.begin(machine.web_url, at_once=20)
    wait_until("orders are placed", lambda: len(buyers.told) >= 50)
    standby.stop_at_once()
    left_at = time.monotonic()
    ready = f"{machine.web_url}/health/ready/"
    wait_until("readiness names it", lambda: "standby" in httpx.get(ready, timeout=20).text, seconds=30)
    named = time.monotonic() - left_at
    assert httpx.get(ready, timeout=20).status_code == 503
    time.sleep(20)
    doctor = machine.run_command("doctor").stdout
    alive = max(seconds(f"{machine.web_url}/health/live/") for _ in range(20))
    standby.start()
    back = time.monotonic()
    wait_until("it is ready again", lambda: httpx.get(ready, timeout=20).status_code == 200, seconds=30)
    healed = time.monotonic() - back
    buyers.join()
    settle(own_postgresql.url())
    found = count(own_postgresql.url(), buyers, mail_server.received)
    say(
        f"{found}; readiness names it after {named:.1f} s; answers {dict(buyers.statuses())}, slowest "
        f"{buyers.slowest(1):.1f} s; liveness at the most {alive:.2f} s; ready {healed:.1f} s after it was back"
    )
    assert "commits wait for a synchronous standby" in doctor
    assert all(process.is_alive for process in processes)
    assert found.is_clean
    assert len(buyers.told) == 150
    assert buyers.slowest(1) < 15
    assert named < 15


def test_what_an_asynchronous_standby_loses(own_postgresql, standby, place, machine, mail_server, say):
    with psycopg.connect(own_postgresql.url(), autocommit=True) as link:
        link.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        link.execute("SELECT pg_reload_conf()")
    machine.environment["DATABASE_URL"] = place
    start_all(machine)
    buyers = Buyers(150)
    buyers.begin(machine.web_url, at_once=3, pause=0.1)
    wait_until("orders are placed", lambda: len(buyers.told) >= 50)
    with psycopg.connect(standby.url(), autocommit=True) as link:  # It is cut off, and a second behind.
        link.execute("ALTER SYSTEM SET primary_conninfo = ''")
        link.execute("SELECT pg_reload_conf()")
    time.sleep(1)
    own_postgresql.stop_at_once()
    acknowledged = len(buyers.told)
    standby.promote()
    buyers.join()
    settle(standby.url())
    found = count(standby.url(), buyers, mail_server.received)
    verify = machine.run_command("outbox", "verify")
    with psycopg.connect(standby.url(), autocommit=True) as link:
        recorded = {id for (id,) in link.execute("SELECT message_id FROM email_app_emaildelivery")}
    astray = [mail for mail in mail_server.received if mail["Message-ID"] not in recorded]
    say(
        f"{found}; of {acknowledged} orders acknowledged before the promotion {found.missing} are gone; {len(astray)} "
        f"mails went out of which nothing is known; `outbox verify` exits {verify.returncode}"
    )
    assert found.open == found.dead == found.without_tasks == found.without_sale == found.wrong_stock == 0


SUCCEEDED = "SELECT count(*) FROM celery_ledger_durabletask WHERE status = 'succeeded'"
OPEN_BEFORE = f"{OPEN} AND created_at < %s"


def start_all(machine):
    return [
        machine.start_web(),
        machine.start_relay(),
        machine.start_relay(),
        machine.start_worker(),
        machine.start_worker(),
    ]


def seconds(url):
    began = time.monotonic()
    httpx.get(url, timeout=20).raise_for_status()
    return time.monotonic() - began
