"""The whole stack by its compose file: customers order while its containers are killed one by one."""

import json
import os
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue

import httpx
import pytest

from tests.containers.customer import Customer
from tests.containers.stack import Stack, inspect
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(900)

ORDERS = 200
BUYERS = 4
VICTIMS = ("worker", "relay", "web", "redis", "worker-outside", "beat", "mail", "flower", "postgres")


@pytest.fixture(scope="module")
def stack():
    with Stack(f"shopwire-test-{os.getpid()}") as stack:
        stack.run("up", "--detach", "--build", "--wait")
        stack.run("run", "--rm", "demo")
        yield stack


class Buyer(threading.Thread):
    """Orders as long as the shop is to be given orders, and notes their numbers."""

    def __init__(self, url: str, to_place: "SimpleQueue[None]", placed: list[int]) -> None:
        super().__init__(daemon=True)
        self.customer = Customer(url)
        self.to_place, self.placed = to_place, placed

    def run(self):
        with suppress(Empty):
            while True:
                self.to_place.get_nowait()
                self.placed.append(self.customer.order())


def test_every_service_is_healthy_and_runs_without_rights(stack):
    stack.run("up", "--detach", "--wait", "--no-recreate")
    for line in stack.run("ps", "--format", "json").stdout.splitlines():
        service = json.loads(line)
        assert service["State"] == "running", service
        assert service["Health"] == ("" if service["Service"] == "beat" else "healthy"), service
    for service in ("web", "relay", "worker", "worker-outside", "beat", "flower"):
        for container in stack.containers(service):
            known = inspect(container)
            assert known["Config"]["User"] == "shopwire"
            assert known["HostConfig"]["ReadonlyRootfs"]
    assert len(stack.containers("relay")) == 2


def test_orders_survive_the_loss_of_every_container(stack):
    to_place: SimpleQueue[None] = SimpleQueue()
    for _ in range(ORDERS):
        to_place.put(None)
    placed: list[int] = []
    buyers = [Buyer(stack.url, to_place, placed) for _ in range(BUYERS)]
    for buyer in buyers:
        buyer.start()

    for number, service in enumerate(VICTIMS, start=1):
        wait_until(
            f"{number} tenths of the orders are placed",
            lambda share=number: len(placed) >= ORDERS * share / (len(VICTIMS) + 1),
            seconds=120,
        )
        assert len(placed) < ORDERS, f"all orders were placed before {service} was killed"
        stack.start(stack.kill(service))
    for buyer in buyers:
        buyer.join(180)
        assert not buyer.is_alive(), "a buyer is still waiting for an answer"

    assert len(set(placed)) == ORDERS
    assert sum(buyer.customer.unanswered for buyer in buyers) > 0, "nobody noticed that web and database were killed"
    wait_until(
        "every promise is kept", lambda: stack.manage("outbox", "verify", check=False).returncode == 0, seconds=180
    )
    assert buyers[0].customer.count_orders() == ORDERS
    # The mail server was killed too, and it forgets: what it has is a part of the mails, none of them twice.
    mails = [mail["messageId"] for mail in httpx.get(f"http://127.0.0.1:{stack.mail_port}/email", timeout=15).json()]
    assert mails
    assert len(set(mails)) == len(mails)


def test_services_are_scaled(stack):
    stack.run("up", "--detach", "--wait", "--no-recreate", "--scale", "worker=3", "--scale", "relay=3")

    assert len(stack.containers("worker")) == 3
    assert len(stack.containers("relay")) == 3
