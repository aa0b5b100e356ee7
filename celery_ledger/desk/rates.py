"""How many of a task may begin a second in the whole cluster, as a person or a program says it."""

from typing import Any

from celery_ledger.models import TaskRate
from celery_ledger.rows import rates


def set_rate(app: Any, name: str, rate: Any) -> str:
    """
    Limit how often tasks of ``name`` begin, in the notation of ``app.control.rate_limit``; 0 or None lifts the limit.

    Relays keep it from within a second on, whatever restarts, until another is said. That of the task itself holds
    again, and what a later release makes of it, when the same is said. Returns Celery's line about it.

    Raises:
        ValueError: it is not a rate.
    """
    number = rates.per_second(rate)
    own = getattr(app.tasks.get(name), "rate_limit", None)
    is_own = bool(own) and number == rates.per_second(own)
    TaskRate.objects.update_or_create(name=name, defaults={"said": None if is_own else str(rate or 0)})
    return "new rate limit set successfully" if number else "rate limit disabled successfully"
