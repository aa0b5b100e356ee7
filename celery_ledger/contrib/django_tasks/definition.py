"""The class that ``@task`` creates: Django's own class of tasks, extended with the ledger's options."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from celery_ledger.contrib.django_tasks.framework import base, find_backend

__all__ = ["OPTIONS", "LedgerTask", "said_by", "task"]

Base: Any = base.Task


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTask(Base):
    """
    A Django task that is stored in the ledger.

    Options that ``@task`` takes in addition to Django's own. None means the value in the backend's ``OPTIONS``, or else
    the default given first:

    ``transactional``: False. True runs the body inside the transaction that marks it done: its effects in the database
    happen exactly once.

    ``batch_size``: 1. Above 1, every caller passes one argument and the body receives them as a list. Requires
    ``transactional=True``.

    ``max_retries``: 0. How often it is retried after an error, with growing pauses; ``retries`` names the policy:
    ``"brisk"`` (seconds to minutes) or ``"patient"`` (for tasks that call other servers).

    ``acks_late``: True. With False, a task whose worker died fails permanently instead of running again.

    ``unique_key``, ``unique_for``, ``debounce``: one row for many calls, as in :class:`celery_ledger.Task`.

    ``limit_key``, ``concurrency_per_key``: how many with the same key may run at once, as in
    :class:`celery_ledger.Task`.

    ``time_limit``, ``soft_time_limit``: seconds, as in Celery.
    """

    transactional: bool | None = None
    batch_size: int | None = None
    max_retries: int | None = None
    retries: str | None = None
    acks_late: bool | None = None
    unique_key: str | Callable[..., str | None] | None = None
    unique_for: str | float | timedelta | None = None
    debounce: float | timedelta | None = None
    limit_key: str | Callable[..., str | None] | None = None
    concurrency_per_key: int | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None


#: The names of the ledger's options.
OPTIONS: Final = frozenset(field.name for field in fields(LedgerTask)) - {field.name for field in fields(Base)}


def task(function: Callable[..., Any] | None = None, *, backend: str = "default", **options: Any) -> Any:
    """
    Make a task of a function, as Django's own ``@task`` does, with Django's options and those of :class:`LedgerTask`.

    It is the same for all versions: the ``@task`` of Django 6.0 refuses options of a backend.

    Raises:
        TypeError: there is no such option.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        given = {"priority": 0, "queue_name": "default", "takes_context": False} | options
        return find_backend(backend).task_class(func=function, backend=backend, run_after=None, **given)

    return decorate if function is None else decorate(function)


def said_by(task: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a task sets, completed from ``defaults``."""
    own = {name: getattr(task, name, None) for name in OPTIONS}
    return defaults | {name: value for name, value in own.items() if value is not None}
