"""
Retry policies: how often and when a failed task is retried, for a task's ``retries`` option.

Each pause is twice the last one, up to the policy's maximum. By default a pause is chosen evenly between half of it and
all of it, so that tasks that failed together are not retried together.
"""

from dataclasses import dataclass
from typing import Final

from celery_ledger import backoff

__all__ = ["BRISK", "PATIENT", "POLICIES", "Policy", "policy"]


@dataclass(frozen=True)
class Policy:
    """A number of retries, with pauses from ``first`` to ``longest`` seconds."""

    purpose: str
    retries: int
    first: float
    longest: float

    def pauses(self) -> list[float]:
        """Return the longest possible pauses before each retry, in seconds."""
        return [
            backoff.exponential(attempt, base=self.first, ceiling=self.longest)
            for attempt in range(1, self.retries + 1)
        ]


BRISK: Final = "brisk"
PATIENT: Final = "patient"
POLICIES: Final = {
    BRISK: Policy(
        "for work in the project's own database, where failures that last minutes need a person", 7, 1.0, 60.0
    ),
    # Even if chance halves every pause, they still add up to more than a day.
    PATIENT: Policy("for third-party servers, which can be down for a night", 59, 1.0, 3_600.0),
}


def policy(name: str) -> Policy:
    """
    Return the policy with this name.

    Raises:
        ValueError: there is no such policy.
    """
    try:
        return POLICIES[name]
    except KeyError:
        raise ValueError(f"There is no retry policy {name!r}; there are {', '.join(POLICIES)}.") from None
