"""The size of a run."""

from dataclasses import dataclass

PRODUCTS = 200
LINES = 3
EFFECTS_AN_ORDER = 3


@dataclass(frozen=True)
class Size:
    """Orders are multiplied by a contender's ``backlog`` where it drains fast."""

    rounds: int
    backlog_orders: int
    live_orders: int
    probes: int
    load_seconds: float
    idle_seconds: float
    growth: tuple[int, ...]  # rows in the ledger
    growth_orders: int
    growth_effects: int
    floor_turns: int
    broker_orders: int
    broker_limit: int  # seconds


FULL = Size(
    rounds=5,
    backlog_orders=300,
    live_orders=400,
    probes=40,
    load_seconds=5.0,
    idle_seconds=3.0,
    growth=(1_000, 10_000, 100_000, 1_000_000),
    growth_orders=300,
    growth_effects=40_000,
    floor_turns=1_000,
    broker_orders=150,
    broker_limit=10,
)
QUICK = Size(
    rounds=1,
    backlog_orders=10,
    live_orders=20,
    probes=3,
    load_seconds=0.5,
    idle_seconds=0.5,
    growth=(),
    growth_orders=0,
    growth_effects=0,
    floor_turns=20,
    broker_orders=0,
    broker_limit=0,
)
