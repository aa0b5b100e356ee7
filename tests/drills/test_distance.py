"""
Two hosts with a round trip of twenty milliseconds between them: database and broker on one, all processes on the other.

Proxies delay what passes: not every kernel can.
"""

import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.drills.count import count, one, settle
from tests.drills.test_round_trips import at_rest, statements
from tests.faults.buyers import Buyers
from tests.tcp_proxy import tcp_proxy

pytestmark = [pytest.mark.drill, pytest.mark.processes, pytest.mark.postgresql, pytest.mark.timeout(900)]
ONE_WAY = 0.010  # seconds
ORDERS = 20
#: And a half: the list of webhooks, which is read again every few seconds, falls into some checkouts.
MOST_OF_A_CHECKOUT = 10.5
#: Orders for the measurement of throughput.
BURST = 200


@pytest.fixture
def far(own_postgresql, machine, mail_server):
    """Start processes on the other host: ``far(start, name)`` returns the proxy to the database of each."""
    place = urlsplit(own_postgresql.url())
    with ExitStack() as stack:

        def start(begin, name, **options):
            database = stack.enter_context(tcp_proxy(place.hostname, place.port, delay=ONE_WAY))
            broker = stack.enter_context(tcp_proxy("127.0.0.1", machine.redis_port, delay=ONE_WAY))
            url = place._replace(netloc=f"postgres@127.0.0.1:{database.port}").geturl()
            begin(
                DATABASE_URL=f"{url}?application_name={name}",
                REDIS_URL=f"redis://127.0.0.1:{broker.port}/0",
                **options,
            )
            return database

        yield start


def log_statements(server):
    with psycopg.connect(server.url(), autocommit=True) as link:
        link.execute("ALTER SYSTEM SET log_statement = 'all'")
        link.execute("ALTER SYSTEM SET log_line_prefix = '%a: '")
        link.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with an idempotency key"])
def test_round_trips_of_a_checkout(own_postgresql, machine, far, say, keyed):
    database = far(machine.start_web, "web")
    buyers = Buyers(2 * ORDERS, keyed=keyed)
    buyers.place(machine.web_url, ORDERS)  # Statements are prepared by now, and threads have their connections.
    log_statements(own_postgresql)
    [idle] = at_rest(database)
    before, began = database.turns, time.monotonic()
    buyers.place(machine.web_url, ORDERS)
    took = time.monotonic() - began
    turns = (database.turns - before - idle * took) / ORDERS
    seconds = sorted(second for checkout in buyers.begun[ORDERS:] for second in checkout.seconds)
    said = "\n".join(f"{number / ORDERS:6.2f} {text}" for text, number in statements(own_postgresql.log, "web"))
    say(f"{turns:.1f} round trips a checkout, {1000 * seconds[len(seconds) // 2]:.0f} ms at the median\n{said}")
    assert len(buyers.told) == 2 * ORDERS
    assert turns <= MOST_OF_A_CHECKOUT


def test_lag_and_throughput_of_four_processes(own_postgresql, machine, mail_server, far, say):
    url = own_postgresql.url()
    machine.start_web()  # Beside the database: only what follows from an order is measured.
    relay = far(machine.start_relay, "relay")
    worker = far(machine.start_worker, "worker", concurrency=4)
    buyers = Buyers(3 * ORDERS + BURST)
    buyers.place(machine.web_url, ORDERS)
    settle(url)
    idle = at_rest(relay, worker)
    before, began = (relay.turns, worker.turns), time.monotonic()
    now = one(url, "SELECT extract(epoch FROM now()) * 1000000")
    for _ in range(2 * ORDERS):
        buyers.place(machine.web_url, 1)
        settle(url)
    took = time.monotonic() - began
    of_relay, of_worker = (
        (proxy.turns - had - rest * took) / (2 * ORDERS)
        for proxy, had, rest in zip((relay, worker), before, idle, strict=True)
    )
    with psycopg.connect(url) as link:
        [(half, most)] = link.execute(LAGS, [now]).fetchall()
    first = one(url, "SELECT extract(epoch FROM now()) * 1000000")
    buyers.begin(machine.web_url, at_once=8)
    buyers.join()
    settle(url, seconds=300)
    with psycopg.connect(url) as link:
        [(seconds,)] = link.execute(SPAN, [first]).fetchall()
    found = count(url, buyers, mail_server.received)
    say(
        f"one after the other: p50 {half:.2f} s, p99 {most:.2f} s from commit to effect, {of_worker:.1f} round trips "
        f"of the worker and {of_relay:.1f} of the relay an order; {BURST} at once: four processes did "
        f"{BURST / float(seconds):.1f} orders/s; {found}"
    )
    assert found.is_clean


LAGS = """
    SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - created_at)),
           percentile_disc(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - created_at))
    FROM celery_ledger_durabletask
    WHERE status = 'succeeded' AND subject LIKE 'store.order:%%' AND created_at >= to_timestamp(%s / 1000000.0)
"""
#: Seconds from the first call to the last end.
SPAN = """
    SELECT extract(epoch FROM max(completed_at) - min(created_at)) FROM celery_ledger_durabletask
    WHERE status = 'succeeded' AND subject LIKE 'store.order:%%' AND created_at >= to_timestamp(%s / 1000000.0)
"""
