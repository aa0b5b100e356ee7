"""
``python -m bench.day EXPORT``: December's days of a real shop, scaled up, on a given number of cores.

Each invoice of the export (UCI Online Retail; see retail/export.py) stands for ``--times`` orders, spread evenly over
the minutes around it, because the export has only minutes. A checkout must be served at once; the tasks of an order may
wait. So each second's cores go to checkouts first, and the rest to tasks, the oldest first. The costs are those of
``python -m bench.capacity``, in CPU milliseconds per order.
"""

import argparse
import math
import os
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import django

from bench.capacity import Costs

MINUTE = 60
#: Minutes before and after an invoice over which its orders are spread.
SPREAD = 5
CORES = (4, 16, 64, 256)


@dataclass(frozen=True)
class Day:
    """The orders of a day, by second, from its first to its last."""

    date: date
    seconds: list[float]

    @property
    def orders(self) -> float:
        return sum(self.seconds)

    @property
    def busiest(self) -> float:
        return max(self.seconds)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a day: the longest time from an order to the end of its tasks, and the most that waited."""

    longest_wait: float  # seconds; infinite if the cores do not finish the day's work within twice its time
    most_waiting: float
    #: Orders that found no core for their checkout in the second in which they came.
    refused: float


def days_of(placed: list[datetime], *, times: int) -> list[Day]:
    """Return the days of these invoices, each invoice ``times`` orders."""
    by_day: dict[date, list[datetime]] = {}
    for at in placed:
        by_day.setdefault(at.date(), []).append(at)
    return [_day(day, invoices, times) for day, invoices in sorted(by_day.items())]


def _day(day: date, invoices: list[datetime], times: int) -> Day:
    minutes = Counter(at.hour * MINUTE + at.minute for at in invoices)
    first, last = min(minutes) - SPREAD, max(minutes) + SPREAD
    share = times / ((2 * SPREAD + 1) * MINUTE)
    seconds = []
    for minute in range(first, last + 1):
        near = sum(minutes[other] for other in range(minute - SPREAD, minute + SPREAD + 1))
        seconds += [near * share] * MINUTE
    return Day(day, seconds)


def live_through(day: Day, costs: Costs, cores: float) -> Outcome:
    """Return the outcome of a day with this number of cores for all roles together."""
    # At the checkout: the web process, and about half of what the database does for an order.
    now = costs.web + costs.postgresql / 2
    later = costs.relay + costs.workers + costs.redis + costs.postgresql / 2
    come = done = refused = most = longest = 0.0
    arrivals: list[float] = []  # orders taken until the end of each second
    served = 0  # the second whose orders are being worked on
    for second in range(3 * len(day.seconds)):
        wish = day.seconds[second] if second < len(day.seconds) else 0.0
        taken = min(wish, cores / now)
        refused += wish - taken
        come += taken
        arrivals.append(come)
        done = min(come, done + max(0.0, cores - taken * now) / later)
        while served < second and arrivals[served] <= done + 1e-9:
            served += 1
        most, longest = max(most, come - done), max(longest, second - served)
        if second >= len(day.seconds) and done >= come - 1e-9:
            return Outcome(longest, most, refused)
    return Outcome(math.inf, most, refused)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.day", description=__doc__)
    parser.add_argument("export", type=Path)
    parser.add_argument("--times", type=int, default=10_000, help="orders an invoice (default %(default)s)")
    parser.add_argument(
        "--costs",
        required=True,
        help="web,relay,workers,postgresql,redis: CPU milliseconds an order, of bench.capacity",
    )
    options = parser.parse_args()
    costs = Costs(*(float(cost) / 1000 for cost in options.costs.split(",")))
    os.environ.setdefault("DEBUG", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
    django.setup()
    from retail.export import read_export

    invoices = [invoice for invoice in read_export(options.export).invoices.values() if invoice.sales]
    days = days_of([invoice.lines[0].placed_at for invoice in invoices], times=options.times)
    busiest = max(days, key=lambda day: day.orders)
    sharpest = max(days, key=lambda day: day.busiest)
    print(f"{len(days)} days, {sum(day.orders for day in days):,.0f} orders; the busiest day, {busiest.date}:")
    print(
        f"{busiest.orders:,.0f} orders, {busiest.busiest:.0f} a second at its peak. The highest peak, {sharpest.date}:"
    )
    print(f"{sharpest.busiest:.0f} a second.")
    for cores in CORES:
        outcomes = [live_through(day, costs, cores) for day in days]
        refused = sum(outcome.refused for outcome in outcomes) / sum(day.orders for day in days)
        longest = max(outcome.longest_wait for outcome in outcomes)
        most = max(outcome.most_waiting for outcome in outcomes)
        print(
            f"{cores:4d} cores: {refused:6.2%} without a core at checkout, longest wait of tasks {longest:,.0f} s, "
            f"{most:,.0f} orders with open tasks at most"
        )
    needed = next(
        cores for cores in range(1, 10_000) if all(live_through(day, costs, cores).longest_wait <= 1 for day in days)
    )
    print(f"{needed} cores keep the tasks of every day within a second.")


if __name__ == "__main__":
    main()
