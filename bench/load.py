"""
``python -m bench.load``: checkouts over HTTP through the real web process, with everything else running.

Clients without think time post one cart after another to ``/api/orders/``, each over its own connection, while a relay
and a worker run the tasks. Three cases: the broker responds, is gone, and is alternately available. Afterwards nothing
may be missing. Reports the CPU time of each process per order and, with ``--profile``, the share of each layer of the
web process. Writes load.json and load.md.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import machine, report, whole_shop
from bench.carts import carts as made_up_carts
from bench.database import Database
from bench.processes import ROOT, Running
from bench.redis_server import RedisServer
from bench.size import PRODUCTS
from bench.stages import quantile

#: A separate database, with the shop's tables, which the bench's other database lacks.
DEFAULT_DATABASE = "postgres://postgres@127.0.0.1:5432/shopwire_load_bench"
PORT = 18_432
CUSTOMERS = 50
#: Orders per second and case for which there are carts; no run has needed more.
MOST_ORDERS_A_SECOND = 600
#: Seconds for which a flapping broker is available, and then unavailable.
FLAP = 1.0
#: Seconds that the effects of a case may take after its last order.
PATIENCE = 120.0
MANAGE = (sys.executable, "manage.py")
#: The owner of a profile sample: the first one that its innermost frames name.
LAYERS = {
    "database driver": ("psycopg",),
    "ORM": ("django/db/",),
    "Django REST framework, authentication": ("rest_framework", "jwt/"),
    "Django": ("django/",),
    "server": ("uvicorn", "httptools", "asyncio/", "channels", "asgiref", "concurrent/futures"),
    "the ledger": ("celery_ledger/", "worker/"),
    "the shop": ("store/", "core/", "email_app/", "analytics_app/", "notifications/", "operations/"),
}


@dataclass
class Clients:
    """Clients in a separate thread, with their responses and response times."""

    number: int
    tokens: list[str]
    carts: Iterator[tuple[int, str]]
    took: list[float] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    until: float = 0.0

    def run(self, seconds: float) -> float:
        """Order for this many seconds; return how long it took until the last was answered."""
        began = time.monotonic()
        self.until = began + seconds

        async def all_of_them() -> None:
            await asyncio.gather(*(self._buy() for _ in range(self.number)))

        thread = threading.Thread(target=asyncio.run, args=(all_of_them(),))
        thread.start()
        thread.join()
        return time.monotonic() - began

    async def _buy(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        try:
            while time.monotonic() < self.until:
                customer, cart = next(self.carts)
                body = json.dumps({"cart_id": cart})
                began = time.monotonic()
                writer.write(
                    "POST /api/orders/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    f"Authorization: Bearer {self.tokens[customer]}\r\n"
                    f"Idempotency-Key: {uuid.uuid4()}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
                )
                await reader.readexactly(length)
                self.took.append(time.monotonic() - began)
                self.answers[int(head.split(b" ", 2)[1])] += 1
        finally:
            writer.close()


@contextmanager
def flapping(broker: RedisServer) -> Iterator[None]:
    """Make the broker alternately available and unavailable; it loses its messages each time."""
    over = threading.Event()

    def flap() -> None:
        while not over.wait(FLAP):
            broker.stop()
            over.wait(FLAP)
            broker.start()

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def gone(broker: RedisServer) -> Iterator[None]:
    """Run without a broker."""
    broker.stop()
    try:
        yield
    finally:
        broker.start()


@contextmanager
def there(broker: RedisServer) -> Iterator[None]:
    """Run with a working broker."""
    yield


CASES = {"up": there, "down": gone, "flapping": flapping}


class Shop:
    """The shop's processes, as they are started in production: one web process, a relay, a worker of two."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        worker = (sys.executable, "-m", "celery", "-A", "worker", "worker", "-c", "2", "--loglevel", "WARNING")
        commands = {"web": (*MANAGE, "serve", "--port", str(PORT)), "relay": (*MANAGE, "relay"), "worker": worker}
        self.running = {
            role: Running(command, environment, folder / f"{role}.log") for role, command in commands.items()
        }
        self.running["web"].wait_until_it_says("Uvicorn running")
        self.running["relay"].wait_until_it_says("ready")

    def cpu(self) -> dict[str, float]:
        return {role: machine.tree_cpu(running.process.pid) for role, running in self.running.items()}

    def stop(self) -> None:
        for running in self.running.values():
            running.stop()


def make_catalogue() -> list[str]:
    """Fill the shop; return a token for each customer, the first customer's first."""
    from rest_framework_simplejwt.tokens import AccessToken

    from accounts.models import User
    from store.models import Product, Stock

    products = Product.objects.bulk_create(
        Product(title=f"Product {n}", slug=f"product-{n}", sku=f"P{n}", unit_price=f"{n % 90}.99")
        for n in range(1, PRODUCTS + 1)
    )
    Stock.objects.filter(product__in=products).delete()
    Stock.objects.bulk_create(Stock(product=product, on_hand=10**9) for product in products)
    return [
        str(AccessToken.for_user(User.objects.create_user(f"customer{n}", f"c{n}@example.com")))
        for n in range(CUSTOMERS)
    ]


def make_carts(number: int, seed: int) -> list[tuple[int, str]]:
    """Make ``number`` carts of three products; return each with the index of its customer."""
    from store.models import Cart, CartItem, Customer, Product

    customers = list(Customer.objects.filter(user__username__startswith="customer").order_by("pk"))
    first = Product.objects.order_by("pk").values_list("pk", flat=True)[0] - 1
    whose = list(zip(cycle(range(len(customers))), range(number), strict=False))
    made = Cart.objects.bulk_create([Cart(customer=customers[place]) for place, _ in whose], batch_size=5_000)
    CartItem.objects.bulk_create(
        [
            CartItem(cart=cart, product_id=first + product, quantity=quantity)
            for cart, lines in zip(made, made_up_carts(seed), strict=False)
            for product, quantity in lines.items()
        ],
        batch_size=5_000,
    )
    return [(place, str(cart.pk)) for (place, _), cart in zip(whose, made, strict=True)]


def wait_for_effects() -> float:
    """Wait for a limited time until nothing is due; return the seconds."""
    from celery_ledger.models import DurableTask

    began = time.monotonic()
    waiting = DurableTask.objects.filter(status__in=["pending", "published", "running"], queue__in=QUEUES)
    while waiting.exists() and time.monotonic() - began < PATIENCE:
        time.sleep(0.1)
    return time.monotonic() - began


#: The queues of an order's tasks; later scheduled tasks are not awaited.
QUEUES = ("email", "inventory", "analytics", "notifications", "default")


def measure_case(
    name: str, options: argparse.Namespace, tokens: list[str], broker: RedisServer, context: dict[str, Any]
) -> dict[str, Any]:
    """Place orders for a while with the broker in one state; then check that every effect has happened."""
    from store.models import Order

    number = int(MOST_ORDERS_A_SECOND * options.seconds)
    clients = Clients(options.clients, tokens, iter(make_carts(number, seed=len(context["runs"]))))
    warming = Clients(options.clients, tokens, iter(make_carts(20 * options.clients, seed=-1)))
    warming.run(0.5)
    wait_for_effects()
    context["database"].run("CHECKPOINT")
    placed_before = Order.objects.count()
    shop, postgresql = context["shop"], context["postgresql"]
    before, database_before = shop.cpu(), postgresql.cpu()
    with CASES[name](broker):
        seconds = clients.run(options.seconds)
        during, database_during = shop.cpu(), postgresql.cpu()
    settled = wait_for_effects()
    after = shop.cpu()
    placed = Order.objects.count() - placed_before
    verify = subprocess.run(
        [*MANAGE, "outbox", "verify"], env=context["environment"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    orders = clients.answers[201]
    return {
        "broker": name,
        "clients": options.clients,
        "orders": orders,
        "answers": dict(clients.answers),
        "orders_per_s": orders / seconds,
        "p50_ms": 1000 * quantile(clients.took, 0.50),
        "p95_ms": 1000 * quantile(clients.took, 0.95),
        "p99_ms": 1000 * quantile(clients.took, 0.99),
        "max_ms": 1000 * max(clients.took),
        "web_cpu_ms_an_order": 1000 * (during["web"] - before["web"]) / orders,
        "database_cpu_ms_an_order": 1000 * (database_during - database_before) / orders,
        "relay_and_worker_cpu_ms_an_order": 1000
        * sum(after[role] - before[role] for role in ("relay", "worker"))
        / orders,
        "orders_per_core_s": orders / (during["web"] - before["web"]),
        "seconds_until_all_was_done": settled,
        "orders_in_the_database": placed,
        "verify": verify.returncode,
        "verify_says": verify.stdout.strip().splitlines()[-1:] if verify.returncode else [],
    }


@contextmanager
def profiled(pid: int, seconds: float, into: Path) -> Iterator[None]:
    """Sample a process's CPU time meanwhile with py-spy."""
    command = ["py-spy", "record", "--gil", "-p", str(pid), "-d", str(int(seconds)), "-r", "200"]
    command[0] = str(Path(sys.executable).with_name("py-spy"))
    spy = subprocess.Popen([*command, "-f", "raw", "-o", str(into)], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        spy.wait(60)


def layers_of(raw: Path) -> dict[str, float]:
    """Return the share of each layer in the samples of requests."""
    found: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = [frame.removeprefix(str(ROOT)).replace(".venv-bench/", "") for frame in stack.split(";")]
        found[_layer(frames)] += int(samples)
    return {layer: round(samples / found.total(), 3) for layer, samples in found.most_common()}


def _layer(frames: list[str]) -> str:
    for frame in reversed(frames):
        for layer, marks in LAYERS.items():
            if any(mark in frame for mark in marks):
                return layer
    return "Python's own"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--clients", type=int, default=16, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each case (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of all cases (default: %(default)s)")
    parser.add_argument("--cases", default=",".join(CASES), help="with commas (default: %(default)s)")
    parser.add_argument("--profile", action="store_true", help="say where the web process's time goes: needs py-spy")
    options = parser.parse_args()
    database = Database(os.environ.get("BENCH_LOAD_DATABASE_URL", DEFAULT_DATABASE))
    broker = RedisServer()
    of_this_load = {
        "THROTTLE_CHECKOUT": "off",
        "EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend",
        "ACCESS_TOKEN_MINUTES": "600",
    }
    os.environ.update(whole_shop.environment(database, broker) | of_this_load)
    try:
        with TemporaryDirectory(prefix="bench-") as folder:
            results = measure(options, database, broker, Path(folder))
    finally:
        with suppress(ProcessLookupError):
            broker.stop()
    folder_of_results = report.RESULTS / f"{results['when'][:10]}-{results['commit']}"
    folder_of_results.mkdir(parents=True, exist_ok=True)
    (folder_of_results / "load.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder_of_results / "load.md").write_text(table(results))
    print(table(results))


def measure(options: argparse.Namespace, database: Database, broker: RedisServer, folder: Path) -> dict[str, Any]:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("flush", interactive=False, verbosity=0)
    tokens = make_catalogue()
    shop = Shop({**os.environ}, folder)
    context: dict[str, Any] = {
        "shop": shop,
        "database": database,
        "postgresql": machine.PostgreSQL(database.value("SELECT pg_backend_pid()"), database.name),
        "environment": {**os.environ},
        "runs": [],
    }
    results: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "hardware": machine.hardware(),
        "load_average_before": os.getloadavg()[0],
        "runs": context["runs"],
    }
    try:
        for _ in range(options.rounds):
            for case in options.cases.split(","):
                context["runs"].append(measure_case(case, options, tokens, broker, context))
                print(json.dumps(context["runs"][-1]), file=sys.stderr, flush=True)
        if options.profile:
            raw = folder / "profile.txt"
            with profiled(shop.running["web"].process.pid, options.seconds, raw):
                measure_case("up", options, tokens, broker, context)
            results["web_cpu_by_layer"] = layers_of(raw)
    finally:
        shop.stop()
    results["load_average_after"] = os.getloadavg()[0]
    return results


def table(results: dict[str, Any]) -> str:
    """Return the medians of each case as Markdown."""
    columns = {
        "orders/s": "orders_per_s",
        "p50 ms": "p50_ms",
        "p95 ms": "p95_ms",
        "p99 ms": "p99_ms",
        "orders/s a core of the web process": "orders_per_core_s",
        "web CPU ms/order": "web_cpu_ms_an_order",
        "database CPU ms/order": "database_cpu_ms_an_order",
        "relay and worker CPU ms/order": "relay_and_worker_cpu_ms_an_order",
        "s until all was done": "seconds_until_all_was_done",
    }
    lines = [f"| broker | {' | '.join(columns)} | answers | verify |", "|---" * (len(columns) + 3) + "|"]
    for case in dict.fromkeys(run["broker"] for run in results["runs"]):
        runs = [run for run in results["runs"] if run["broker"] == case]
        medians = (f"{quantile([run[key] for run in runs], 0.5):.4g}" for key in columns.values())
        answers = sum((Counter(run["answers"]) for run in runs), Counter[int]())
        told = ", ".join(f"{number} x {status}" for status, number in sorted(answers.items()))
        verified = "ok" if all(run["verify"] == 0 for run in runs) else "NOT ok"
        lines.append(f"| {case} | {' | '.join(medians)} | {told} | {verified} |")
    if shares := results.get("web_cpu_by_layer"):
        lines += ["", "| where the web process's CPU goes | share |", "|---|---|"]
        lines += [f"| {layer} | {share:.0%} |" for layer, share in shares.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
