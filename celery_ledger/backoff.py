"""Pauses between attempts. Pure arithmetic: no clock, no database."""

import random


def exponential(attempts: int, *, base: float, ceiling: float) -> float:
    """
    Return ``base`` seconds doubled for each attempt after the first, at most ``ceiling`` seconds.

    Raises:
        ValueError: ``attempts`` is below one.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, got {attempts}")
    return min(ceiling, base * 2.0 ** min(attempts - 1, 62))


def jittered(seconds: float) -> float:
    """
    Return a uniformly random pause between half of ``seconds`` and all of it.

    This keeps tasks that failed together from being retried together ("equal jitter": Brooker, Exponential Backoff And
    Jitter, AWS Architecture Blog, 2015).
    """
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards no secret
