"""Round trips of workers and relay for an order's five tasks, counted at proxies in front of the database."""

import re
import time
from collections import Counter
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.drills.count import settle
from tests.faults.buyers import Buyers
from tests.tcp_proxy import tcp_proxy

pytestmark = [pytest.mark.drill, pytest.mark.processes, pytest.mark.postgresql, pytest.mark.timeout(600)]
ORDERS = 20


@pytest.mark.parametrize("pace", ["one after the other", "all at once"])
def test_round_trips_of_an_order(own_postgresql, machine, mail_server, say, pace):
    url = own_postgresql.url()
    place = urlsplit(url)
    with tcp_proxy(place.hostname, place.port) as of_workers, tcp_proxy(place.hostname, place.port) as of_relay:
        machine.start_web()
        for start, proxy, name in (
            (machine.start_relay, of_relay, "relay"),
            (machine.start_worker, of_workers, "worker"),
        ):
            start(DATABASE_URL=url.replace(f":{place.port}", f":{proxy.port}") + f"?application_name={name}")
        buyers = Buyers(3 * ORDERS)
        buyers.place(machine.web_url, ORDERS)  # Statements are prepared, processes have their connections.
        settle(url)
        time.sleep(12)  # Canaries have come back.
        idle = at_rest(of_workers, of_relay)
        with psycopg.connect(url, autocommit=True) as link:
            link.execute("ALTER SYSTEM SET log_statement = 'all'")
            link.execute("ALTER SYSTEM SET log_line_prefix = '%a: '")
            link.execute("SELECT pg_reload_conf()")
        before, began = (of_workers.turns, of_relay.turns), time.monotonic()
        if pace == "all at once":
            buyers.begin(machine.web_url, at_once=8)
            while len(buyers.told) < 3 * ORDERS:
                time.sleep(0.05)
            buyers.stop()
        else:
            for _ in range(ORDERS):
                buyers.place(machine.web_url, 1)
                settle(url)
        settle(url)
        took = time.monotonic() - began
        orders = len(buyers.told) - ORDERS
        worker, relay = (
            (proxy.turns - had - rest * took) / orders
            for proxy, had, rest in zip((of_workers, of_relay), before, idle, strict=True)
        )
        said = "\n".join(
            f"{name} {number / orders:6.2f} {text}"
            for name in ("worker", "relay")
            for text, number in statements(own_postgresql.log, name)
        )
        say(
            f"{worker:.1f} of the workers and {relay:.1f} of the relay an order; at rest {idle[0]:.1f} and "
            f"{idle[1]:.1f} a second\n{said}"
        )


def at_rest(*proxies):
    """Return how many round trips a second each has with nothing to do."""
    before = [proxy.turns for proxy in proxies]
    time.sleep(10)
    return [(proxy.turns - had) / 10 for proxy, had in zip(proxies, before, strict=True)]


def statements(log, name):
    """Return the statements that processes of a name had run, by how often; the server indents their further lines."""
    texts = rf"^{name}: LOG:  (?:execute [^:]*|statement): (.*(?:\n\t.*)*)"
    found = re.findall(texts, log.read_text(errors="replace"), re.MULTILINE)
    return Counter(" ".join(re.sub(r"\$?\d+|'[^']*'", "?", text).split())[:110] for text in found).most_common(45)
