"""
What an old ledger costs: ``make drill-old STAGES="fill compare prune snapshot week"``.

``DATABASE_URL`` names a PostgreSQL database whose name ends in ``_large``; beside it, one with ``_small`` is used. Both
must exist, and are emptied. The server should be one of its own, such as with ``fsync=off``.

fill: write ROWS finished rows (50 million), a million for each day, and LATER rows (half a million) due later.
compare: a checkout, a claim, and a drain on both databases, in turns; medians of LAPS laps (40).
prune: delete the oldest day, portion by portion, while another process places and runs tasks; then as a relay does it.
snapshot: enqueue, sweep, claim and complete under a snapshot as many rows as a thousand a second in MINUTES (30).
week: the same for WEEKS (3) of seven days of DAY (10) seconds each, with a retention time of one week.
"""

import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg

ROWS, LATER = int(os.environ.get("ROWS", "50000000")), int(os.environ.get("LATER", "500000"))
LAPS = int(os.environ.get("LAPS", "40"))
MINUTES, RATE = float(os.environ.get("MINUTES", "30")), 1_000
DAY, WEEKS = float(os.environ.get("DAY", "10")), float(os.environ.get("WEEKS", "3"))
#: Seconds between two finished rows: a million a day.
SPACING = 0.0864
#: How many calls are made between two turns of a relay: what gathers in 15 ms at a thousand a second.
CALLS = 15
ORDERS, CLAIMS = 5, 20
UUID = """(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3)
    || '8' || substr(md5(i::text), 4, 15))::uuid"""
INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = 'celery_ledger_durabletask' AND indexname LIKE 'ledger_%'
"""
FINISHED = f"""
    INSERT INTO celery_ledger_durabletask (id, name, queue, status, args, kwargs, attempts, subject, request_id, canvas,
        created_at, available_at, published_at, completed_at)
    SELECT {UUID},
        (ARRAY['store.tasks.update_inventory', 'email_app.tasks.send_order_confirmation', 'drills.nothing',
            'analytics_app.tasks.record_sale', 'core.tasks.record_order_event'])[1 + i % 5],
        'default', 'succeeded', jsonb_build_array(i / 5), '{{}}', 1, 'store.order:' || i / 5, md5((i / 5)::text),
        md5((i / 5)::text)::uuid, at, at, at + interval '10 ms', at + interval '40 ms'
    FROM (SELECT i, now() - interval '1 hour' - (%(rows)s - i) * interval '{1000 * SPACING} milliseconds' AS at
        FROM generate_series(1, %(rows)s) AS i) AS s
"""
DUE_LATER = f"""
    INSERT INTO celery_ledger_durabletask (id, name, queue, args, kwargs, subject, request_id, created_at, available_at)
    SELECT {UUID}, 'drills.nothing', 'default', jsonb_build_array(i), '{{}}', 'store.order:' || i, md5(i::text), at,
        now() + interval '1 day' + i * interval '1 second'
    FROM (SELECT i, now() - interval '50 minutes' + i * interval '1 millisecond' AS at
        FROM generate_series(1, %(later)s) AS i) AS s
"""
SIZES = """
    SELECT pg_table_size(oid), pg_indexes_size(oid) FROM pg_class WHERE relname = 'celery_ledger_durabletask'
"""


def main() -> int:
    stages = {"fill": fill, "compare": compare, "prune": prune, "snapshot": snapshot, "week": week}
    if sys.argv[1] == "work":
        return work()
    for stage in sys.argv[1:]:
        stages[stage]()
    return 0


def url(size: str) -> str:
    named = os.environ.get("DATABASE_URL", "")
    if not named.endswith("_large"):
        sys.exit("DATABASE_URL must name a PostgreSQL database whose name ends in _large.")
    return named.removesuffix("large") + size


def connected(size: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url(size), autocommit=True)


class Worker:
    """A process with the project on one of the databases, which does what it is told."""

    def __init__(self, size: str) -> None:
        environment = {**os.environ, "DATABASE_URL": url(size), "DEBUG": "1"}
        environment["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        command = [sys.executable, "-m", "tests.drills.old", "work"]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, what: str, *given: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([what, *given]) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, what: str, *given: Any) -> Any:
        self.tell(what, *given)
        return self.hear()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def say(text: str) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{time.strftime('%F %T')} ({commit.stdout.strip()}, load {loads}) {text}", flush=True)


# --- The stages -------------------------------------------------------------------------


def fill() -> None:
    for size in ("small", "large"):
        with Worker(size) as worker:
            worker.ask("migrate")
    began = time.monotonic()
    with connected("large") as link:
        # The table is new in this transaction, so that a server with wal_level=minimal logs nothing of it.
        with link.transaction():
            link.execute("TRUNCATE celery_ledger_durabletask CASCADE")
            indexes = link.execute(INDEXES).fetchall()
            for name, _ in indexes:
                link.execute(f'DROP INDEX "{name}"')
            link.execute(FINISHED % {"rows": ROWS, "later": LATER})
            link.execute(DUE_LATER % {"rows": ROWS, "later": LATER})
            for _, definition in indexes:
                link.execute(definition)
        link.execute("VACUUM (FREEZE, ANALYZE) celery_ledger_durabletask")
        link.execute("CHECKPOINT")
        [[table, of_indexes]] = link.execute(SIZES).fetchall()
    say(
        f"{ROWS} finished rows and {LATER} due later in {time.monotonic() - began:.0f} s: "
        f"table {table / 1e9:.1f} GB, indexes {of_indexes / 1e9:.1f} GB"
    )


def compare() -> None:
    laps: dict[str, list[dict[str, float]]] = {"small": [], "large": []}
    with Worker("small") as small, Worker("large") as large:
        workers = {"small": small, "large": large}
        for worker in workers.values():
            worker.ask("lap")
        for number in range(LAPS):
            for size in ("small", "large") if number % 2 else ("large", "small"):
                laps[size].append(workers[size].ask("lap"))
    for what in laps["small"][0]:
        medians = {size: statistics.median(lap[what] for lap in found) for size, found in laps.items()}
        pairs = [b[what] / a[what] for a, b in zip(laps["small"], laps["large"], strict=True)]
        say(
            f"{what}: small {medians['small']:.2f} ms, large {medians['large']:.2f} ms: "
            f"{medians['large'] / medians['small']:.3f}x; median of {LAPS} pairs {statistics.median(pairs):.3f}x"
        )


def prune() -> None:
    with connected("large") as link, Worker("large") as pruner, Worker("large") as other:
        [[before]] = link.execute("SELECT id FROM celery_ledger_durabletask ORDER BY id LIMIT 1").fetchall()
        oldest = int(before.hex[:12], 16) / 1000
        days = (time.time() - oldest) / 86_400 - 1
        other.tell("steps", 20.0)
        times = pruner.ask("prune", days)
        steps = other.hear()
        say(f"a day: {portions(times)}")
        say(f"meanwhile another session's enqueue, claim and complete: {quantiles(steps)}")
        rows, seconds, longest = pruner.ask("prune_as_a_relay", days - 1, 20.0)
        say(
            f"as an idle relay: {rows} rows in {seconds:.0f} s: a million in {seconds * 1e6 / rows / 60:.1f} minutes, "
            f"ten million in {seconds * 1e7 / rows / 3600:.1f} hours; longest pause of the relay {longest * 1e3:.0f} ms"
        )


def portions(times: list[tuple[int, float]]) -> str:
    rows, seconds = sum(n for n, _ in times), sum(took for _, took in times)
    return f"{rows} rows in {seconds:.0f} s, {len(times)} portions: {quantiles([took for _, took in times])}"


def quantiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return (
        f"p50 {ordered[len(ordered) // 2] * 1e3:.0f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.0f} ms, "
        f"longest {ordered[-1] * 1e3:.0f} ms, over 50 ms {sum(each > 0.05 for each in ordered)} of {len(ordered)}"
    )


def snapshot() -> None:
    wanted = int(MINUTES * 60 * RATE)
    limited = bool(os.environ.get("LIMITED"))
    with Worker("small") as worker, connected("small") as link:
        empty(link)
        worker.ask("mill", 5.0, limited)
        before = [worker.ask("mill", 10.0, limited)["rate"] for _ in range(3)]
        say(f"before: {', '.join(f'{rate:.0f}' for rate in before)} tasks a second")
        with connected("small") as holder:
            holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            holder.execute("SELECT count(*) FROM celery_ledger_durabletask")
            done = 0
            while done < wanted:
                found = worker.ask("mill", 20.0, limited)
                done += found["rows"]
                say(f"{done} rows under the snapshot: {found['rate']:.0f} tasks a second {found['spent']}")
            holder.execute("ROLLBACK")
        last = found["rate"] / statistics.median(before)
        say(f"at the end {last:.2f} of the throughput before")


def week() -> None:
    with Worker("small") as worker, connected("small") as link:
        empty(link)
        for day in range(int(7 * WEEKS)):
            found = worker.ask("mill", DAY, False, 7 * DAY / 86_400)
            [[table, indexes]] = link.execute(SIZES).fetchall()
            [[rows]] = link.execute("SELECT count(*) FROM celery_ledger_durabletask").fetchall()
            say(f"day {day + 1}: {rows} rows, {found['rate']:.0f} tasks a second, table {table}, indexes {indexes}")
        sizes = link.execute(
            "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index "
            "WHERE indrelid = 'celery_ledger_durabletask'::regclass"
        ).fetchall()
        link.execute("VACUUM FULL celery_ledger_durabletask")
        live = dict(
            link.execute(
                "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index "
                "WHERE indrelid = 'celery_ledger_durabletask'::regclass"
            ).fetchall()
        )
        [[live_table, live_indexes]] = link.execute(SIZES).fetchall()
        say(
            f"at the end table {table / live_table:.2f}x, indexes {indexes / live_indexes:.2f}x of their live size, "
            f"together {(table + indexes) / (live_table + live_indexes):.2f}x; "
            f"a day is {DAY:g} s: {86_400 / DAY:.0f} times as fast"
        )
        say(", ".join(f"{name} {size // 1024} of {live[name] // 1024} kB" for name, size in sizes if size > 100_000))


def empty(link: psycopg.Connection[Any]) -> None:
    link.execute("TRUNCATE celery_ledger_durabletask, celery_ledger_tally CASCADE")
    link.execute("VACUUM FULL celery_ledger_durabletask")


# --- The other process ------------------------------------------------------------------


def work() -> int:
    import django
    from django.test.utils import setup_test_environment

    django.setup()
    setup_test_environment(debug=False)
    logging.disable(logging.INFO)  # Celery reports every task.
    _mill(limited=False)  # Its tasks are known from the start.
    told: dict[str, Callable[..., Any]] = {
        "migrate": migrate,
        "lap": lap,
        "steps": steps,
        "prune": prune_portions,
        "prune_as_a_relay": prune_as_a_relay,
        "mill": mill,
    }
    for line in sys.stdin:
        what, *given = json.loads(line)
        print(json.dumps(told[what](*given)), flush=True)
    return 0


def migrate() -> bool:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    return True


_known: dict[str, Any] = {}


def lap() -> dict[str, float]:
    """Return medians in milliseconds of a checkout and a claim, and of draining a task."""
    from django.db import transaction

    from celery_ledger.rows import ledger
    from celery_ledger.testing import drain
    from tests.shop import api, check_out, make_cart, make_customer, make_product

    if "customer" not in _known:
        number = str(time.time_ns())
        _known["product"] = make_product(stock=10_000_000, sku=f"OLD{number}")
        _known["customer"] = make_customer(username=f"old{number}", email=f"old{number}@example.com")
    customer = _known["customer"]
    client = api(customer)
    checkouts, claims = [], []
    for _ in range(ORDERS):
        cart = make_cart({_known["product"]: 1}, customer)
        began = time.perf_counter()
        answer = check_out(client, cart)
        checkouts.append(time.perf_counter() - began)
        assert answer.status_code == 201, answer.content
    for _ in range(CLAIMS):
        with transaction.atomic():
            began = time.perf_counter()
            rows = ledger.claim({"default": CLAIMS}, lease=60, limit=CLAIMS)
            claims.append(time.perf_counter() - began)
            assert rows
            transaction.set_rollback(True)
    began = time.perf_counter()
    ran = drain()
    drained = (time.perf_counter() - began) / ran
    return {
        "checkout": 1e3 * statistics.median(checkouts),
        "claim": 1e3 * statistics.median(claims),
        "drain, a task": 1e3 * drained,
    }


def steps(seconds: float) -> list[float]:
    """Enqueue, claim and complete for so long; return how long each of these steps took."""
    took = []
    run = _mill(limited=False)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for step in run:
            began = time.monotonic()
            step()
            took.append(time.monotonic() - began)
        time.sleep(0.01)
    return took


def prune_portions(days: float) -> list[tuple[int, float]]:
    from celery_ledger.desk import pruner

    took, began = [], time.monotonic()
    for count in pruner.portions(older_than=timedelta(days=days)):
        took.append((count, time.monotonic() - began))
        began = time.monotonic()
    return took


def prune_as_a_relay(days: float, seconds: float) -> tuple[int, float, float]:
    from django.test import override_settings

    from celery_ledger.desk import pruner
    from celery_ledger.relay.rounds import Round

    with override_settings(LEDGER_RETENTION_DAYS=days):
        relay = _relay()
        pruning = pruner.Pruning()
        longest = [0.0]

        def make() -> float | None:
            began = time.monotonic()
            try:
                return pruning.make()
            finally:
                longest[0] = max(longest[0], time.monotonic() - began)

        relay._rounds = {Round("pruning", pruner.INTERVAL, make): 0.0}
        before = _oldest()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            relay._go_round()
        return round((_oldest() - before) / SPACING), passed, longest[0]


def _oldest() -> float:
    """Return the time of the oldest row, in seconds; it is counted by that, since counting reads the whole table."""
    from celery_ledger.models import DurableTask

    return int(DurableTask.objects.order_by("id").values_list("id", flat=True)[0].hex[:12], 16) / 1000


def _relay() -> Any:
    from celery_ledger.relay.relay import Relay
    from worker.celery import app

    relay = Relay(app, window=1_000, lease=60)
    broker = Broker()
    relay.broker, relay.broker_errors = broker, broker.errors  # type: ignore[assignment]
    return relay


class Broker:
    """In the broker's place: it keeps the messages, and its queues are never full."""

    errors = (ConnectionError,)

    def __init__(self) -> None:
        self.messages: list[tuple[str, list[str]]] = []

    def depth(self, queue: str) -> int:
        return 0

    def publish(self, queue: str, name: str, ids: list[Any]) -> None:
        if ids:
            self.messages.append((name, [str(id) for id in ids]))

    def refuse_eviction(self) -> None:
        pass

    def close(self) -> None:
        pass


def _mill(*, limited: bool) -> tuple[Callable[[], Any], ...]:
    """Return what happens to a few calls, step by step: enqueue, sweep, claim and publish, run and complete."""
    from celery import shared_task

    from celery_ledger.relay import statistics
    from celery_ledger.relay.rounds import rounds
    from celery_ledger.rows.outbox import collecting
    from celery_ledger.work import consumer
    from worker.celery import app

    if "mill" not in _known:

        @shared_task(name="drills.nothing", transactional=True)
        def nothing(number: int) -> None:
            pass

        @shared_task(name="drills.limited", rate_limit="1/s")
        def slowly() -> None:
            pass

        relay = _relay()
        relay._rounds = {round: 0.0 for round in rounds() if round.make is statistics.keep}
        _known["mill"] = nothing, slowly, relay
    nothing, slowly, relay = _known["mill"]
    slowly.rate_limit = "1/s" if limited else None

    def enqueue() -> None:
        with collecting():
            for number in range(CALLS):
                nothing.delay(number)

    def sweep() -> None:
        relay.sweep_if_due()
        relay.make_rounds()

    def complete() -> None:
        while relay.broker.messages:
            name, ids = relay.broker.messages.pop()
            consumer.consume(app.tasks[name], ids)

    return enqueue, sweep, relay.turn, complete


def mill(seconds: float, limited: bool, retention: float | None = None) -> dict[str, Any]:
    """Have calls go through for so long; with ``retention``, prune those older than so many days beside it."""
    from celery_ledger.desk import pruner

    steps = _mill(limited=limited)
    spent = [0.0] * len(steps)
    rows, began = 0, time.monotonic()
    next_pruning = began
    while time.monotonic() - began < seconds:
        rows += CALLS
        for place, step in enumerate(steps):
            start = time.monotonic()
            step()
            spent[place] += time.monotonic() - start
        if retention is not None and time.monotonic() > next_pruning:
            pruner.prune(older_than=timedelta(days=retention))
            next_pruning = time.monotonic() + 1
    passed = time.monotonic() - began
    names = ("enqueue", "sweep", "claim", "complete")
    shares = {name: round(1e6 * took / rows) for name, took in zip(names, spent, strict=True)}
    return {"rows": rows, "rate": rows / passed, "spent": f"(microseconds a task: {shares})"}


if __name__ == "__main__":
    sys.exit(main())
