"""
``python -m bench.capacity``: the orders per second that an installation can take, predicted and then measured.

The model has one number for each role: the CPU seconds that an order costs web processes, relay, workers,
PostgreSQL and Redis, its tasks included. They are measured at a low rate. The maximum of one machine is its cores
divided by the sum; of several machines, the least of each role's cores divided by its own number. Then the machine runs
at full speed, and the result is compared with the prediction.
"""

import argparse
import http.client
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import machine
from bench.database import Database
from bench.processes import Running
from bench.redis_server import RedisServer
from bench.whole_shop import environment

DEFAULT_DATABASE = "postgres://postgres@127.0.0.1:5432/shopwire_capacity_bench"
PORT = 18_433
CLIENTS = 6


@dataclass(frozen=True)
class Costs:
    """CPU seconds that an order costs each role, its tasks included."""

    web: float
    relay: float
    workers: float
    postgresql: float
    redis: float

    def several_machines(self, **cores: float) -> tuple[float, str]:
        """Return how many orders a second these cores per role can take, and which role is the bottleneck."""
        return min((count / getattr(self, role), role) for role, count in cores.items())


class Installation:
    """One process of each role on this machine."""

    def __init__(self, environment: dict[str, str], folder: Path, database: Database, redis: RedisServer) -> None:
        def start(name: str, *command: str) -> Running:
            return Running((sys.executable, *command), environment, folder / f"{name}.log")

        self.postgresql = machine.PostgreSQL(database.value("SELECT pg_backend_pid()"), database.name)
        self.database = database
        self.redis = redis
        self.web = start("web", "manage.py", "serve", "--port", str(PORT))
        self.workers = start(
            "worker",
            "-m",
            "celery",
            "-A",
            "worker",
            "worker",
            "-c",
            "2",
            "-l",
            "info",
            "--without-gossip",
            "--without-mingle",
        )
        self.relay = start("relay", "manage.py", "relay")
        self.web.wait_until_it_says("Uvicorn running")
        self.workers.wait_until_it_says(" ready.")
        self.relay.wait_until_it_says("The relay is ready")

    def cpu(self) -> Costs:
        """CPU seconds so far, by role."""
        return Costs(
            web=machine.tree_cpu(self.web.process.pid),
            relay=machine.tree_cpu(self.relay.process.pid),
            workers=machine.tree_cpu(self.workers.process.pid),
            postgresql=self.postgresql.cpu(),
            redis=machine.tree_cpu(self.redis.process.pid),
        )

    def wal(self) -> int:
        """Bytes of WAL that the server has written so far."""
        return int(self.database.value("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))

    def stop(self) -> None:
        for running in (self.web, self.relay, self.workers):
            running.stop()


def cores_for_us(seconds: float, idle: float, ours: float) -> float:
    """Return the cores available to us: those we used and those that were idle."""
    return (idle + ours) / seconds


def idle_seconds() -> float:
    """Return the seconds that all cores have idled since the machine started."""
    return int(Path("/proc/stat").read_text().split("\n")[0].split()[4]) * machine.TICK


def place(orders: list[tuple[str, str]], *, per_second: float | None) -> float:
    """Place orders, ``(cart, token)``, over HTTP with a few clients; return the seconds it took."""
    remaining = iter(orders)
    lock = threading.Lock()
    failed: list[int] = []
    began = time.monotonic()

    def client(pause: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        while True:
            with lock:
                order = next(remaining, None)
            if order is None:
                return
            due = time.monotonic() + pause
            cart, token = order
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request("POST", "/api/orders/", json.dumps({"cart_id": cart}), headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 201:
                failed.append(answer.status)
            time.sleep(max(0.0, due - time.monotonic()))

    threads = [
        threading.Thread(target=client, args=(CLIENTS / per_second if per_second else 0,)) for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"{len(failed)} orders were refused, the first with {failed[0]}.")
    return time.monotonic() - began


def make_orders(count: int) -> list[tuple[str, str]]:
    """Return ``count`` carts of three lines, each with its customer's token."""
    from datetime import timedelta

    from django.contrib.auth import get_user_model
    from rest_framework_simplejwt.tokens import AccessToken

    from store.models import Cart, CartItem, Product, Stock

    users = get_user_model()._default_manager
    tag = time.time_ns()
    buyers: list[Any] = [
        users.create_user(username=f"buyer{tag}-{place}", email=f"buyer{tag}-{place}@bench.example")
        for place in range(20)
    ]
    if not Product.objects.exists():
        wares = Product.objects.bulk_create(
            Product(sku=f"B{place}", title=f"Ware {place}", slug=f"ware-{place}", unit_price="2.50")
            for place in range(200)
        )
        Stock.objects.bulk_create(Stock(product=ware, on_hand=10**9) for ware in wares)
    products = list(Product.objects.values_list("pk", flat=True))
    carts = Cart.objects.bulk_create(Cart(customer=buyers[place % 20].customer) for place in range(count))
    CartItem.objects.bulk_create(
        (
            CartItem(cart=cart, product_id=products[(7 * number + line) % len(products)], quantity=1)
            for number, cart in enumerate(carts)
            for line in range(3)
        ),
        batch_size=3_000,
    )
    tokens = []
    for buyer in buyers:
        token = AccessToken.for_user(buyer)
        token.set_exp(lifetime=timedelta(hours=4))
        tokens.append(str(token))
    return [(str(cart.pk), tokens[place % 20]) for place, cart in enumerate(carts)]


def wait_until_done(patience: float = 300) -> None:
    from celery_ledger.models import DurableTask

    deadline = time.monotonic() + patience
    while DurableTask.objects.filter(status__in=["pending", "published", "running"]).exists():
        if time.monotonic() > deadline:
            raise SystemExit("The tasks were not done in time.")
        time.sleep(0.02)


def run(installation: Installation, count: int, *, per_second: float | None) -> dict[str, Any]:
    """Place orders and wait for their tasks; return the costs, the orders a second and the cores that were ours."""
    orders = make_orders(count)
    wait_until_done()
    before, idle, own, began = installation.cpu(), idle_seconds(), time.process_time(), time.monotonic()
    wal = installation.wal()
    place(orders, per_second=per_second)
    wait_until_done()
    seconds = time.monotonic() - began
    after = installation.cpu()
    used = {field.name: getattr(after, field.name) - getattr(before, field.name) for field in fields(Costs)}
    client = time.process_time() - own
    return {
        "costs": Costs(**{role: cpu / count for role, cpu in used.items()}),
        "client": client / count,
        "wal": (installation.wal() - wal) / count,
        "per_second": count / seconds,
        "cores": cores_for_us(seconds, idle_seconds() - idle, sum(used.values()) + client),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--orders", type=int, default=600, help="placed at each pace (default %(default)s)")
    parser.add_argument("--pace", type=float, default=15, help="orders a second while costs are measured")
    options = parser.parse_args()
    redis = RedisServer()
    database = Database(os.environ.get("BENCH_CAPACITY_DATABASE_URL", DEFAULT_DATABASE))
    with TemporaryDirectory(prefix="capacity-") as name:
        folder = Path(name)
        os.environ |= environment(database, redis) | {
            "CELERY_BROKER_URL": redis.url,
            "EMAIL_URL": f"filemail:///{folder}/mail",
            "THROTTLE_CHECKOUT": "off",
            "PYTHONUNBUFFERED": "1",
        }
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        installation = Installation(dict(os.environ), folder, database, redis)
        try:
            run(installation, 60, per_second=options.pace)  # All processes have their connections and plans now.
            easy = run(installation, options.orders, per_second=options.pace)
            full = run(installation, options.orders, per_second=None)
        finally:
            installation.stop()
            redis.stop()
    costs: Costs = easy["costs"]
    predicted = full["cores"] / (sum(asdict(costs).values()) + easy["client"])
    print(f"CPU milliseconds an order at {options.pace:g} a second, its tasks included:")
    print("  " + ", ".join(f"{role} {1000 * cpu:.1f}" for role, cpu in asdict(costs).items()))
    print("  at full speed: " + ", ".join(f"{role} {1000 * cpu:.1f}" for role, cpu in asdict(full["costs"]).items()))
    print(f"WAL an order: {easy['wal'] / 1000:.0f} kB, at full speed {full['wal'] / 1000:.0f} kB")
    print(f"This machine, with {full['cores']:.2f} cores left to us and the client on it:")
    print(f"  predicted {predicted:.0f} orders a second, measured {full['per_second']:.0f}")
    print(f"  measured / predicted {full['per_second'] / predicted:.2f}")
    bears, role = costs.several_machines(web=4, relay=1, workers=4, postgresql=4, redis=1)
    print(
        f"Predicted for 4 cores each of web, workers and PostgreSQL and 1 each of relay and Redis: {bears:.0f} ({role})"
    )


if __name__ == "__main__":
    main()
