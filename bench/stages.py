"""One contender's turn in a round: place orders, drain them, watch it idle, measure its lag, run it live."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

from bench.contender import Contender
from bench.database import Database
from bench.machine import PostgreSQL
from bench.processes import Bench, Consumers, Told
from bench.redis_server import RedisServer
from bench.size import EFFECTS_AN_ORDER, Size

PATIENCE = 8.0  # seconds without any effect, after which missing effects count as lost
LOAD = 100  # orders a second, the "half load" under which lag is measured
PROBE_PAUSE = 0.1  # seconds between probes under load
SETTLING = 0.5  # seconds of quiet before idle figures are taken

Figures = dict[str, Any]
#: What follows the drain, in this order.
STAGES = ("idle", "lag", "load", "live")


def quantile(values: Sequence[float], q: float) -> float:
    """Return the value below which the share ``q`` of ``values`` lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class Turn:
    """A contender's turn. Figures are in milliseconds, seconds, MB, or orders and effects a second, as named."""

    def __init__(
        self, bench: Bench, database: Database, broker: RedisServer, size: Size, stages: Sequence[str] = STAGES
    ) -> None:
        self.bench = bench
        self.database = database
        self.broker = broker
        self.size = size
        self.stages = stages
        self.postgresql = PostgreSQL(database.value("SELECT pg_backend_pid()"), database.name)

    def run(self, contender: Contender) -> Figures:
        """Run all stages and return the result of each."""
        self.broker.empty()
        self.database.empty(contender.tables)
        figures: Figures = self.place(contender)
        with Consumers(self.bench, contender) as consumers:
            figures |= self.drain()
            if "idle" in self.stages:
                figures |= self.idle(consumers)
            if "lag" in self.stages:
                figures |= self.lag(contender)
            if "load" in self.stages:
                figures |= self.lag_under_load(contender)
            if "live" in self.stages:
                figures |= self.live(contender, consumers)
        figures["exactness"] = self.database.exactness()
        figures["sessions_of_others"] = self.database.sessions_of_others()
        if contender.durable:
            verified = self.bench.manage(contender, "outbox", "verify")
            figures["outbox_verify"] = (
                "kept" if verified.returncode == 0 else (verified.stdout + verified.stderr)[-2000:]
            )
        return figures

    def place(self, contender: Contender) -> Figures:
        """Place a backlog without consumers: measures the cost for the producer."""
        orders = self.size.backlog_orders * contender.backlog
        measured = Told(self.bench, contender, "producer", orders).go().result()
        latencies = measured["latencies_ms"]
        return {
            "order_p50_ms": statistics.median(latencies),
            "order_p99_ms": quantile(latencies, 0.99),
            "orders_per_s": len(latencies) / measured["seconds"],
            "producer_cpu_s_per_1k": 1000 * measured["cpu_seconds"] / len(latencies),
            "producer_memory_mb": measured["memory_mb"],
            "errors": len(measured["errors"]),
        }

    def drain(self) -> Figures:
        """Let the newly started consumers process the backlog."""
        finished = self.database.wait_for_effects(PATIENCE)
        return {"drain_effects_per_s": self.database.drain_rate(), "drain_finished": finished}

    def idle(self, consumers: Consumers) -> Figures:
        """Measure the cost of waiting for work."""
        time.sleep(SETTLING)
        memory = consumers.memory()
        before, postgresql = consumers.cpu(), self.postgresql.cpu()
        time.sleep(self.size.idle_seconds)
        after, postgresql = consumers.cpu(), self.postgresql.cpu() - postgresql
        spent = {role: after[role] - before[role] for role in after} | {"postgresql": postgresql}
        return {f"idle_{role}_cpu_ms_per_s": 1000 * cpu / self.size.idle_seconds for role, cpu in spent.items()} | {
            f"{role}_memory_mb": megabytes for role, megabytes in memory.items()
        }

    def lag(self, contender: Contender) -> Figures:
        """Measure the time from an order's commit to its last effect, one order at a time."""
        measured = Told(self.bench, contender, "probe", self.size.probes).go().result()
        return self._lags("lag", measured["lags_ms"])

    def lag_under_load(self, contender: Contender) -> Figures:
        """Measure the same while another process places 100 orders per second."""
        seconds = self.size.load_seconds
        probes = ("--pause", PROBE_PAUSE, "--seconds", 0.8 * seconds)
        probe = Told(self.bench, contender, "probe", int(seconds / PROBE_PAUSE), *probes)
        producer = Told(self.bench, contender, "producer", int(LOAD * seconds), "--rate", LOAD, "--seed", 3).go()
        lags = probe.go().result()["lags_ms"]
        measured = producer.result()
        finished = self.database.wait_for_effects(PATIENCE)
        return self._lags("load_lag", lags) | {
            "load_orders_per_s": len(measured["latencies_ms"]) / measured["seconds"],
            "load_finished": finished,
        }

    def live(self, contender: Contender, consumers: Consumers) -> Figures:
        """Run one producer at full speed, and the consumers, on the same machine."""
        orders = self.size.live_orders * min(contender.backlog, 3)
        producer = Told(self.bench, contender, "producer", orders, "--seed", 4)
        self.database.wait_for_effects(PATIENCE)
        before = consumers.cpu() | {"postgresql": self.postgresql.cpu(), "redis": self._redis_cpu()}
        producer.go()
        measured = producer.result()
        finished = self.database.wait_for_effects(PATIENCE)
        after = consumers.cpu() | {"postgresql": self.postgresql.cpu(), "redis": self._redis_cpu()}
        cpu = {role: 1000 * (after[role] - before[role]) / orders for role in after}
        cpu["producer"] = 1000 * measured["cpu_seconds"] / orders
        seconds = self.database.last_effect_at() - measured["started_at"]
        return {
            "live_effects_per_s": EFFECTS_AN_ORDER * orders / seconds,
            "live_finished": finished,
            "live_order_p50_ms": statistics.median(measured["latencies_ms"]),
            "live_orders_per_s": orders / measured["seconds"],
            "live_cpu_s_per_1k": sum(cpu.values()),
        } | {f"live_{role}_cpu_s_per_1k": seconds for role, seconds in cpu.items()}

    def _redis_cpu(self) -> float:
        figures = self.broker.client.info("cpu")
        return float(figures["used_cpu_user"] + figures["used_cpu_sys"])

    def _lags(self, name: str, lags: list[float | None]) -> Figures:
        """Return the lags; a probe that was given up counts as longer than any other."""
        seen = [lag if lag is not None else float("inf") for lag in lags]
        p50, p99 = (quantile(seen, q) if seen else float("inf") for q in (0.5, 0.99))
        return {f"{name}_p50_ms": _finite(p50), f"{name}_p99_ms": _finite(p99), f"{name}s_ms": lags}


def _finite(value: float) -> float | None:
    return None if value == float("inf") else value
