"""Rates of tasks in the whole cluster, set by operators or programs."""

from typing import Any

from celery_ledger.context import current_actor
from celery_ledger.databases import atomic
from celery_ledger.models import TaskRate
from celery_ledger.rows import rates
from celery_ledger.signals import rate_changed


def set_rate(app: Any, name: str, rate: Any) -> str:
    """
    Set the rate of tasks ``name``, in the notation of ``app.control.rate_limit``; 0 or None lifts the limit.

    Relays apply it within a second, and across restarts, until another one is set. Setting the task's own rate removes
    the override, so that later releases may change the rate again. Returns Celery's confirmation.

    Raises:
        ValueError: ``rate_limit`` is not a rate, or the task has a limit by key.
    """
    number = rates.per_second(rate)
    task = app.tasks.get(name)
    if number and getattr(task, "concurrency_per_key", None) is not None:
        raise ValueError(f"{name} has a limit by key, and takes no rate. Limit its queue instead.")
    own = getattr(task, "rate_limit", None)
    is_own = bool(own) and number == rates.per_second(own)
    _say(name, None if is_own else str(rate or 0))
    return "new rate limit set successfully" if number else "rate limit disabled successfully"


def keep_own_rate(name: str) -> None:
    """Restore the rate in the task's code, including later changes to it."""
    _say(name, None)


def _say(name: str, said: str | None) -> None:
    with atomic():
        old = TaskRate.objects.select_for_update().filter(name=name).first()
        before = old.said if old else None
        if before == said:
            return
        TaskRate.objects.update_or_create(name=name, defaults={"said": said})
        rate_changed.send_robust(sender=TaskRate, task=name, before=before, after=said, who=current_actor())
