"""
``python -m bench.live``: the cost of live streams, in one real web process.

The time from a commit to the event in a client, for several numbers of open streams and both transports; one
announcement to all of them; memory per connection; a poll; and an announcement to ten thousand users. Writes live.json.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

#: A separate database, with the shop's tables, which the bench's other database lacks.
DEFAULT_DATABASE = "postgres://postgres@127.0.0.1:5432/shopwire_live_bench"
PORT = 18_431
URL = "http://127.0.0.1:{port}{path}"


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def figures(seconds: list[float]) -> dict[str, float]:
    """Figures in milliseconds."""
    return {
        "count": len(seconds),
        "p50_ms": round(1000 * percentile(seconds, 0.50), 1),
        "p99_ms": round(1000 * percentile(seconds, 0.99), 1),
        "max_ms": round(1000 * max(seconds), 1),
    }


class Clients:
    """Open streams, all in one thread with its own event loop; they record when each id arrived."""

    def __init__(self, way: str, tokens: dict[int, str]) -> None:
        self.way = way
        self.tokens = tokens
        self.came: dict[int, float] = {}
        self.heard = threading.Condition()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.tasks: list[Any] = []

    def open(self) -> None:
        self.opened = 0
        follow = self._sse if self.way == "sse" else self._websocket

        async def all_of_them() -> None:
            gate = asyncio.Semaphore(20)
            self.tasks = [asyncio.ensure_future(follow(token, gate)) for token in self.tokens.values()]

        asyncio.run_coroutine_threadsafe(all_of_them(), self.loop).result()
        deadline = time.monotonic() + 300
        while self.opened < len(self.tokens):
            if time.monotonic() > deadline:
                raise SystemExit(f"Only {self.opened} of {len(self.tokens)} streams are open.")
            time.sleep(0.05)

    def close(self) -> None:
        async def end() -> None:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)

    def wait_for(self, ids: list[int]) -> list[float]:
        """When each arrived, on the machine's monotonic clock."""
        with self.heard:
            if not self.heard.wait_for(lambda: all(id in self.came for id in ids), 60):
                raise SystemExit("An event did not come within a minute.")
            return [self.came[id] for id in ids]

    def _note(self, id: int) -> None:
        now = time.monotonic()
        with self.heard:
            self.came[id] = now
            self.heard.notify_all()

    async def _sse(self, token: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
            writer.write(
                b"GET /api/notifications/sse/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
            )
            status = await reader.readline()
            assert b" 200 " in status, status
            while not (await reader.readline()).startswith(b"id: "):  # The start of the stream.
                pass
        self.opened += 1
        try:
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    self._note(int(line[4:]))
        finally:
            writer.close()

    async def _websocket(self, token: str, gate: asyncio.Semaphore) -> None:
        from websockets.asyncio.client import connect

        async with gate:
            address = f"ws://127.0.0.1:{PORT}/ws/notifications/"
            socket = await connect(address, subprotocols=["bearer", token], ping_interval=None, compression=None)  # type: ignore[list-item]
        self.opened += 1
        try:
            async for frame in socket:
                self._note(json.loads(frame)["id"])
        finally:
            socket.transport.abort()


@contextmanager
def web_process(environment: dict[str, str], folder: Path) -> Any:
    from bench.processes import Running

    command = [sys.executable, "manage.py", "serve", "--port", str(PORT)]
    web = Running(tuple(command), environment, folder / "web.log")
    try:
        web.wait_until_it_says("Uvicorn running")
        yield web
    finally:
        web.stop()


def announce(user_ids: list[int]) -> tuple[float, list[int]]:
    """Notify some users; return the time of the commit, and the ids."""
    from django.db import transaction

    from notifications.announce import newest_id, notify
    from notifications.models import Kind, Notification

    committed: list[float] = []
    before = newest_id()
    with transaction.atomic():
        transaction.on_commit(lambda: committed.append(time.monotonic()))
        notify(user_ids, kind=Kind.ANNOUNCEMENT, message="We are closed on Sunday.")
    return committed[0], list(Notification.objects.filter(pk__gt=before).order_by("pk").values_list("pk", flat=True))


def of_streams(way: str, user_ids: list[int], events: int, environment: dict[str, str], folder: Path) -> dict[str, Any]:
    """Measure open streams, one for each user."""
    from rest_framework_simplejwt.tokens import AccessToken

    from accounts.models import User
    from bench import machine

    tokens = {user.pk: str(AccessToken.for_user(user)) for user in User.objects.filter(pk__in=user_ids)}
    with web_process(environment, folder) as web:
        warm = Clients(way, dict(list(tokens.items())[:1]))
        warm.open()
        warm.close()
        time.sleep(1)
        memory = machine.tree_memory(web.process.pid)
        clients = Clients(way, tokens)
        clients.open()
        time.sleep(1)
        memory_open = machine.tree_memory(web.process.pid)
        busy = machine.tree_cpu(web.process.pid)
        time.sleep(5)
        idle = (machine.tree_cpu(web.process.pid) - busy) / 5
        single = []
        for _ in range(events):
            committed, [id] = announce([random.choice(user_ids)])
            single.append(clients.wait_for([id])[0] - committed)
            time.sleep(0.03)
        result = {
            "way": way,
            "connections": len(user_ids),
            "one_event": figures(single),
            "memory_kb_a_connection": round(1024 * (memory_open - memory) / len(user_ids), 1),
            "idle_cpu_share": round(idle, 4),
        }
        if len(user_ids) > 1:
            to_all = []
            for _ in range(5):
                committed, ids = announce(user_ids)
                to_all += [came - committed for came in clients.wait_for(ids)]
            result["to_all_at_once"] = figures(to_all)
        clients.close()
    return result


def of_polling(user_id: int, environment: dict[str, str], folder: Path) -> dict[str, Any]:
    """Measure polls of an unchanged list, one after another: 304s, and whole answers."""
    import httpx
    from rest_framework_simplejwt.tokens import AccessToken

    from accounts.models import User

    headers = {"Authorization": f"Bearer {AccessToken.for_user(User.objects.get(pk=user_id))}"}
    with web_process(environment, folder), httpx.Client(headers=headers) as client:
        address = URL.format(port=PORT, path="/api/notifications/")
        tag = client.get(address).headers["ETag"]
        took: dict[int, list[float]] = {304: [], 200: []}
        for number in range(1000):
            began = time.monotonic()
            answer = client.get(address, headers={"If-None-Match": tag} if number % 2 else {})
            took[answer.status_code].append(time.monotonic() - began)
    return {"unchanged_304": figures(took[304][50:]), "whole_200": figures(took[200][50:])}


def of_fan_out(count: int) -> dict[str, Any]:
    """Measure one announcement to all users: seconds, and queries per thousand."""
    from django.db import connection, transaction
    from django.test.utils import CaptureQueriesContext

    from accounts.models import User
    from notifications.models import Announcement, Notification
    from notifications.tasks import fan_out_announcement

    missing = count - User.objects.filter(is_active=True).count()
    User.objects.bulk_create(User(username=f"more{n}", email=f"more{n}@example.com") for n in range(missing))
    announcement = Announcement.objects.create(message="We are closed on Sunday.")
    told, after, queries, began = 0, 0, [], time.monotonic()
    while True:
        with CaptureQueriesContext(connection) as captured, transaction.atomic():
            now = fan_out_announcement(announcement.pk, after)
        if not now:
            break
        queries.append(len(captured))
        told += now
        after = Notification.objects.latest("pk").user_id
    return {"told": told, "seconds": round(time.monotonic() - began, 2), "queries_a_thousand": sorted(set(queries))}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--connections", default="1,1000", help="with commas (default: %(default)s)")
    parser.add_argument("--ways", default="sse,websocket", help="with commas (default: %(default)s)")
    parser.add_argument("--events", type=int, default=300, help="timed at each (default: %(default)s)")
    options = parser.parse_args()

    from bench import whole_shop
    from bench.database import Database
    from bench.redis_server import RedisServer

    database = Database(os.environ.get("BENCH_LIVE_DATABASE_URL", DEFAULT_DATABASE))
    broker = RedisServer()
    os.environ.update(whole_shop.environment(database, broker) | {"LOG_LEVEL": "INFO"})
    try:
        with TemporaryDirectory(prefix="bench-") as folder:
            results = measure(options, {**os.environ}, Path(folder))
    finally:
        broker.stop()
    from bench import report

    written = report.RESULTS / f"{results['when'][:10]}-{results['commit']}" / "live.json"
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def measure(options: argparse.Namespace, environment: dict[str, str], folder: Path) -> dict[str, Any]:
    import django

    django.setup()
    from datetime import UTC, datetime

    from django.core.management import call_command

    from accounts.models import User
    from bench import machine, report

    call_command("migrate", verbosity=0)
    call_command("flush", interactive=False, verbosity=0)
    numbers = [int(number) for number in options.connections.split(",")]
    User.objects.bulk_create(User(username=f"reader{n}", email=f"r{n}@example.com") for n in range(max(numbers)))
    user_ids = list(User.objects.order_by("pk").values_list("pk", flat=True))
    results: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "hardware": machine.hardware(),
        "load_average_before": os.getloadavg()[0],
        "streams": [],
    }
    for way in options.ways.split(","):
        for number in numbers:
            results["streams"].append(of_streams(way, user_ids[:number], options.events, environment, folder))
            print(json.dumps(results["streams"][-1]), file=sys.stderr, flush=True)
    results["polling"] = of_polling(user_ids[0], environment, folder)
    results["fan_out"] = of_fan_out(10_000)
    results["load_average_after"] = os.getloadavg()[0]
    return results


if __name__ == "__main__":
    main()
