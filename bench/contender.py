"""The definition of a contender: its settings, the code that enqueues its tasks, and the processes that run them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Command = tuple[str, ...]
PYTHON = sys.executable
MANAGE = (PYTHON, "manage.py")


@dataclass(frozen=True)
class Contender:
    """
    One way to run three tasks after an order.

    ``jobs`` names the module with ``enqueue(order)``, which is called inside the order's transaction,
    and with the three tasks. ``workers`` are two workers' worth of processes; ``relay`` is the process between the
    database and the broker, if there is one. ``backlog`` multiplies the orders of the drain, so that a fast contender
    drains for long enough to be measured.
    """

    name: str
    title: str
    jobs: str
    workers: tuple[Command, ...]
    relay: Command | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    apps: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()  # emptied before each round, besides the bench's own
    worker_ready: str | None = None  # what a worker prints when it is ready; read only if there is a relay
    backlog: int = 1
    prepared: bool = False  # PREPARED_STATEMENTS, which Django by itself does not do
    durable: bool = False  # runs on this project's ledger, with its production settings
