"""
A rolling update of the compose stack under load: two of each, replaced one by one by containers of a new image.

HAProxy stands before the web containers, as a load balancer would. Needs a Docker engine and haproxy.
"""

import json
import os
import subprocess
import threading
import time
import uuid
from collections import Counter

import httpx
import pytest

from tests.containers.conftest import engine_answers
from tests.containers.stack import ROOT, Stack, inspect
from tests.drills.replica import find_haproxy
from tests.processes import free_port, wait_until

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(find_haproxy() is None, reason="there is no haproxy"),
]
OLD, NEW = "shopwire:drill-old", "shopwire:drill-new"
SERVICES = ("worker", "worker-outside", "relay", "web")
#: Orders that are placed while nothing is replaced, before and after.
MARGIN = 20
COUNTS = """
    SELECT json_build_object(
        'orders', (SELECT count(*) FROM store_order),
        'open', (SELECT count(*) FROM celery_ledger_durabletask
                 WHERE status NOT IN ('succeeded', 'cancelled', 'dead') AND subject LIKE 'store.order:%'),
        'dead', (SELECT count(*) FROM celery_ledger_durabletask WHERE status = 'dead'),
        'unsold', (SELECT count(*) FROM store_order WHERE id NOT IN (SELECT order_id FROM analytics_app_salerecord)),
        'sold', (SELECT coalesce(sum(quantity), 0) FROM store_orderitem),
        'taken', (SELECT sum(quantity) FROM store_stockmovement WHERE quantity < 0),
        'lapses', (SELECT count(*) FROM celery_ledger_durabletask WHERE lapses > 0),
        'longest', (SELECT round(max(extract(epoch FROM completed_at - created_at)), 1)
                    FROM celery_ledger_durabletask WHERE subject LIKE 'store.order:%'),
        'ids', (SELECT json_agg(id) FROM store_order)
    )
"""


class Buyers:
    """Place orders until stopped, each try under the order's own key, and remember every answer."""

    def __init__(self, url):
        self.url, self.told, self.answers = url, [], Counter()
        self.refusals = set()
        self.slowest = 0.0
        self._stopping = threading.Event()
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            account = {"username": "demo", "password": "shopwire-demo"}
            token = client.post("/api/token/", json=account).raise_for_status().json()["access"]
            self.product = client.get("/api/products/?in_stock=true").raise_for_status().json()["results"][0]["id"]
        self.headers = {"Authorization": f"Bearer {token}"}
        self._threads = [threading.Thread(target=self._buy, daemon=True) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _buy(self):
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            while not self._stopping.is_set():
                cart = self._post(client, "/api/carts/", {})["id"]
                self._post(client, f"/api/carts/{cart}/items/", {"product_id": self.product, "quantity": 1})
                key = {**self.headers, "Idempotency-Key": str(uuid.uuid4())}
                self.told.append(self._post(client, "/api/orders/", {"cart_id": cart}, key)["id"])
                self._stopping.wait(0.6)  # Within the limit of anonymous carts.

    def _post(self, client, path, body, headers=None):
        while True:
            began = time.monotonic()
            try:
                answer = client.post(path, json=body, headers=headers or {})
            except httpx.TransportError as error:
                self.answers[type(error).__name__] += 1
                self._stopping.wait(0.2)
                continue
            self.answers[answer.status_code] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if answer.is_success:
                return answer.json()
            self.refusals.add(answer.text[:200])
            self._stopping.wait(0.2)

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a buyer is still waiting"


@pytest.fixture
def stack():
    if not engine_answers():
        pytest.skip("no Docker engine answers here")
    subprocess.run(["docker", "build", "--quiet", "--tag", OLD, ROOT], check=True, timeout=900, capture_output=True)
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", NEW, "-"], input=f"FROM {OLD}\nENV NEW=1\n".encode(), check=True
    )
    first = free_port()
    with Stack(f"shopwire-rolling-{os.getpid()}", WEB_PORT=f"{first}-{first + 2}", SHOPWIRE_IMAGE=OLD) as stack:
        stack.run("up", "--detach", "--no-build", "--wait", "--scale", "web=2", *two_of_each())
        stack.run("run", "--rm", "demo")
        sql = "UPDATE store_stock SET on_hand = on_hand + 1000000"  # The sample goods would be sold out.
        stack.run("exec", "-T", "postgres", "psql", "-U", "shopwire", "-c", sql)
        stack.ports = range(first, first + 3)
        yield stack


def two_of_each():
    return [word for service in SERVICES for word in ("--scale", f"{service}=2")]


@pytest.fixture
def balanced(stack, tmp_path):
    """The address of HAProxy, which asks each web container every second whether it takes requests."""
    port = free_port()
    servers = "\n".join(f"  server web{each} 127.0.0.1:{each} check inter 1s fall 1 rise 1" for each in stack.ports)
    (tmp_path / "haproxy.cfg").write_text(
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n"
        "  option redispatch 1\n  retries 3\n  retry-on conn-failure empty-response\n  option http-buffer-request\n"
        f"listen web\n  bind 127.0.0.1:{port}\n  balance roundrobin\n"
        "  option httpchk\n  http-check send meth GET uri /health/live/ hdr Host localhost\n"
        f"{servers}\n"
    )
    process = subprocess.Popen([find_haproxy(), "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait(10)


def test_a_rolling_update_of_two_of_each(stack, balanced, say):
    wait_until("HAProxy has the web containers", lambda: httpx.get(f"{balanced}/health/live/").is_success)
    buyers = Buyers(balanced)
    wait_until("orders are placed", lambda: len(buyers.told) >= MARGIN)
    stack.environment["SHOPWIRE_IMAGE"] = NEW
    took = {}
    for service in SERVICES:
        began = time.monotonic()
        for old in stack.containers(service):
            subprocess.run(["docker", "stop", old], check=True, capture_output=True)
            code = inspect(old)["State"]["ExitCode"]
            assert code in {0, 143}, f"{service} was killed or failed: {code}"  # uvicorn ends by the signal itself.
            subprocess.run(["docker", "rm", old], check=True, capture_output=True)
            scale = ("--scale", f"{service}=2")
            stack.run("up", "--detach", "--no-build", "--no-deps", "--no-recreate", "--wait", *scale, service)
        took[service] = round(time.monotonic() - began)
    images = {inspect(each)["Config"]["Image"] for service in SERVICES for each in stack.containers(service)}
    assert images == {NEW}
    placed = len(buyers.told)
    try:
        wait_until("orders are placed by the new ones alone", lambda: len(buyers.told) >= placed + MARGIN)
    finally:
        say(f"{len(buyers.told)} orders placed, answers {dict(buyers.answers)}, {buyers.refusals}")
    buyers.stop()
    wait_until("no task is open", lambda: counts(stack)["open"] == 0, seconds=120)
    found = counts(stack)
    ids = found.pop("ids")
    missing = [id for id in buyers.told if id not in ids]
    mails = httpx.get(f"http://127.0.0.1:{stack.mail_port}/email", timeout=30).json()
    doubled = len(mails) - len({mail["messageId"] for mail in mails})
    say(
        f"{found}; missing {len(missing)}; mails doubled {doubled}; answers {dict(buyers.answers)}, slowest "
        f"{buyers.slowest:.1f} s; seconds {took}"
    )
    assert not missing
    assert (found["orders"], found["dead"], found["unsold"], doubled) == (len(buyers.told), 0, 0, 0)
    assert set(buyers.answers) <= {200, 201}, buyers.refusals
    assert stack.manage("outbox", "verify", check=False).returncode == 0


def counts(stack):
    told = stack.run("exec", "-T", "postgres", "psql", "-U", "shopwire", "-At", "-c", COUNTS.strip())
    return json.loads(told.stdout)
