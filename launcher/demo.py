"""One order over the public API, and the outcome of each of its tasks."""

import http.client
import json
import random
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any, Final

from launcher.console import say
from launcher.shop import ACCOUNTS

#: Seconds within which every effect of the order must have happened.
PATIENCE: Final = 60
#: The tasks that follow from every order.
EXPECTED: Final = frozenset(
    {
        "email_app.tasks.send_order_confirmation",
        "store.tasks.update_inventory",
        "analytics_app.tasks.record_sale",
    }
)
#: Final statuses.
FINAL: Final = frozenset({"succeeded", "dead", "cancelled"})

chance = random.SystemRandom()


class RefusedError(Exception):
    """The shop's response is not what the demo expects."""


class Client:
    """A JSON client for the shop on this machine; it ignores proxies in the environment."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        """
        Return the JSON of a 2xx response.

        Raises:
            RefusedError: any other answer, or none.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with closing(connection):
            try:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                connection.request(method, path, json.dumps(body) if body else None, {**self.headers, **named})
                answer = connection.getresponse()
                text = answer.read().decode()
            except (OSError, http.client.HTTPException) as error:
                raise RefusedError(f"{method} {path}: no answer ({error})") from None
        if answer.status // 100 != 2:
            raise RefusedError(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)


def place_order(port: int, pause: Callable[[float], None]) -> int:
    """
    Place an order as the demo customer and print the outcome of its tasks.

    ``pause`` waits this many seconds. Returns the exit code: 0 only if every effect happened in time.
    """
    try:
        shop = Client(port)
        name, password, _ = ACCOUNTS[0]
        token = shop.call("POST", "/api/token/", {"username": name, "password": password})["access"]
        shop.headers["Authorization"] = f"Bearer {token}"
        order, took = check_out(shop)
        say(f"\n{name} placed order {order['id']}: {order['total']} {order['currency']}, answered in {took:.0f} ms.\n")
        tasks = wait_for_tasks(shop, order["id"], pause)
    except RefusedError as refusal:
        say(f"The demo failed. {refusal}")
        return 1
    print_table(tasks)
    missing = EXPECTED - {task["task"] for task in tasks}
    for task in sorted(missing):
        say(f"Missing: {task}")
    if missing or any(task["status"] != "succeeded" for task in tasks):
        say(f"Not every effect of the order happened within {PATIENCE} s.")
        return 1
    say("Every effect of the order happened.")
    return 0


def check_out(shop: Client) -> tuple[dict[str, Any], float]:
    """Put a few available products into a cart, and return the order and the response time in ms."""
    products = shop.call("GET", "/api/products/?in_stock=1")["results"]
    if not products:
        raise RefusedError("No product is in stock.")
    cart = shop.call("POST", "/api/carts/")
    chosen = chance.sample(products, k=min(3, len(products)))
    for product in chosen:
        quantity = chance.randint(1, max(1, min(3, product["available"])))
        shop.call("POST", f"/api/carts/{cart['id']}/items/", {"product_id": product["id"], "quantity": quantity})
    started = time.monotonic()
    order = shop.call("POST", "/api/orders/", {"cart_id": cart["id"]}, Idempotency_Key=str(uuid.uuid4()))
    return order, (time.monotonic() - started) * 1000


def wait_for_tasks(shop: Client, order_id: int, pause: Callable[[float], None]) -> list[dict[str, Any]]:
    """Return the order's tasks once all have ended, or time is up; report failures."""
    deadline = time.monotonic() + PATIENCE
    told: set[str] = set()
    while True:
        tasks = shop.call("GET", f"/api/orders/{order_id}/tasks/")["results"]
        for task in tasks:
            if task["last_error"] and task["status"] not in FINAL and task["task"] not in told:
                say(f"{task['task']} failed and will be retried: {task['last_error']}")
                told.add(task["task"])
        settled = all(task["status"] in FINAL for task in tasks) and {task["task"] for task in tasks} >= EXPECTED
        if settled or time.monotonic() >= deadline:
            return list(tasks)
        pause(0.1)


def print_table(tasks: list[dict[str, Any]]) -> None:
    rows = [("task", "status", "attempts", "lag")]
    rows += [(task["task"], task["status"], str(task["attempts"]), lag(task)) for task in tasks]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for task in tasks:
        if task["last_error"]:
            say(f"{task['task']}: {task['last_error']}")
    say()


def lag(task: dict[str, Any]) -> str:
    """Return the time from the order's commit to the effect's."""
    if not task["completed_at"]:
        return "-"
    taken = datetime.fromisoformat(task["completed_at"]) - datetime.fromisoformat(task["enqueued_at"])
    return f"{taken.total_seconds() * 1000:.0f} ms"
