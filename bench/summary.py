"""Medians over the rounds, and ratios taken within each round, where the machine was the same."""

import statistics
from dataclasses import dataclass
from typing import Any

REFERENCES = {"celery_on_commit": "B", "celery_on_commit_tuned": "Br"}


@dataclass(frozen=True)
class Spread:
    """The median and the range of a figure over the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.least)}..{_short(self.most)})"


def spread(values: list[float]) -> Spread | None:
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def contenders_in(results: dict[str, Any]) -> list[str]:
    """Return the contenders that ran, in the order of the table."""
    from bench.contenders import NAMES

    return [name for name in NAMES if any(name in round for round in results["rounds"])]


def over_rounds(results: dict[str, Any], contender: str, figure: str) -> Spread | None:
    """Return a figure's spread; None if the contender never gave it."""
    found = [round[contender].get(figure) for round in results["rounds"] if contender in round]
    return spread([value for value in found if value is not None])


def ratio(results: dict[str, Any], contender: str, reference: str, figure: str) -> Spread | None:
    """Return the spread of a figure's ratio to the reference's of the same round."""
    ratios = []
    for round in results["rounds"]:
        mine, theirs = (round.get(name, {}).get(figure) for name in (contender, reference))
        if mine is not None and theirs:
            ratios.append(mine / theirs)
    return spread(ratios)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
