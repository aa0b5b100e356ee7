"""
The results of a replay, for people and for programs.

Compiled by ``manage.py replay_retail`` from the reports of :mod:`retail.replayer`. It promises that nothing is
dropped silently: every invoice and line read is counted once, or the accounts report that they do not balance.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from retail.export import BROKEN, RETURN, SALE
from retail.replayer import Outcome, Replayer, Result


@dataclass(slots=True)
class Accounts:
    """The results of a replay. Every invoice and every line of the export is in exactly one class."""

    replayer: Replayer
    results: list[Result]
    seconds: float

    @property
    def invoices(self) -> Counter[str]:
        """The number of invoices by outcome."""
        return Counter(str(result.outcome) for result in self.results)

    @property
    def lines(self) -> Counter[str]:
        """The number of lines by class: a sale or return with its invoice's outcome, or the reason."""
        counts: Counter[str] = Counter()
        for result in self.results:
            for line in result.invoice.lines:
                counts[f"{line.kind}: {result.outcome}" if line.kind in {SALE, RETURN} else line.kind] += 1
        if self.replayer.export.broken:
            counts[BROKEN] = len(self.replayer.export.broken)
        return counts

    @property
    def failures(self) -> list[Result]:
        return [result for result in self.results if result.outcome is Outcome.FAILED]

    @property
    def imbalances(self) -> list[str]:
        """The reasons why the accounts do not balance, one sentence each; empty if they do."""
        export, found = self.replayer.export, []
        if Counter(result.invoice.number for result in self.results) != Counter(export.invoices.keys()):
            found.append(f"{len(export.invoices)} invoices were read, {len(self.results)} are accounted for.")
        if sum(self.lines.values()) != export.lines_read:
            found.append(f"{export.lines_read} lines were read, {sum(self.lines.values())} are accounted for.")
        placed = [result.order_id for result in self.results if result.outcome is Outcome.PLACED]
        if len(set(placed)) != len(placed):
            found.append("Two invoices were answered with one order.")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the accounts as JSON types. ``orders`` has the order id of each placed invoice."""
        meter = self.replayer.meter
        invoices = self.invoices
        placed = invoices[Outcome.PLACED]
        times = sorted(1000 * seconds for seconds in meter.checkout_seconds)
        return {
            "run": self.replayer.run,
            "url": self.replayer.url,
            "invoices_read": len(self.replayer.export.invoices),
            "lines_read": self.replayer.export.lines_read,
            "placed": placed,
            "cancelled_whole": invoices[Outcome.CANCELLED_WHOLE],
            "cancelled_part": invoices[Outcome.CANCELLED_PART],
            "invoices": dict(invoices.most_common()),
            "lines": dict(self.lines.most_common()),
            "broken_lines": [{"line": number, "reason": why} for number, why in self.replayer.export.broken],
            "replayed_answers": len(meter.replayed_answers),
            "payments": dict(meter.payments.most_common()),
            "duplicates_flagged": sum(result.duplicate for result in self.results),
            "retries": dict(Counter(meter.retries).most_common()),
            "carts_rebuilt": len(meter.carts_rebuilt),
            "failures": [
                {"invoice": result.invoice.number, "status": result.status, "detail": result.detail}
                for result in self.failures
            ],
            "seconds": round(self.seconds, 3),
            "orders_per_second": round(placed / self.seconds, 2) if self.seconds else 0.0,
            "checkout_ms": {
                name: round(pick_percentile(times, share), 1) for name, share in (("p50", 50), ("p95", 95), ("p99", 99))
            }
            if times
            else None,
            "orders": {
                result.invoice.number: result.order_id for result in self.results if result.outcome is Outcome.PLACED
            },
            "imbalances": self.imbalances,
        }


def pick_percentile(ordered: list[float], share: int) -> float:
    """Return the percentile ``share`` of ``ordered``, which is sorted and not empty."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]
