"""
Promises that ``manage.py outbox verify`` checks against the database.

Each app registers its own in ``ready()``; this package knows only the ledger's.
"""

from collections.abc import Callable, Iterable

from django.db.models import CharField, Exists, OuterRef, Q, Value
from django.db.models.functions import Cast, Concat

from celery_ledger.models import DurableTask, Forgone, Reaction
from celery_ledger.redeliveries import REDELIVERIES

__all__ = ["is_owed", "promises", "register"]

Violations = Callable[[], Iterable[str]]

_promises: dict[str, Violations] = {}


def register(promise: str, violations: Violations) -> None:
    """
    Register ``promise``, a sentence, for the audit: ``violations`` yields a line for each violation.

    Raises:
        ValueError: the same sentence is already registered.
    """
    if _promises.setdefault(promise, violations) is not violations:
        raise ValueError(f"The promise {promise!r} is registered already.")


def promises() -> dict[str, Violations]:
    """Return every registered promise with the function that finds its violations."""
    return dict(_promises)


def is_owed(task: str, *, receiver: str, model: str, moment: str) -> Q:
    """
    Return the condition, for a query of ``model``, that the ledger explains a row's missing effect.

    The task has not run yet, is a dead letter, or was discarded, even if it has been pruned since. Or the ``receiver``
    that would enqueue it failed and will be retried, or did not exist yet at the row's ``moment``.
    """
    subject = Concat(Value(f"{model}:"), Cast(OuterRef("pk"), CharField()))
    in_ledger = DurableTask.objects.filter(
        Q(name=task) | Q(name__in=REDELIVERIES, kwargs__dispatch_uid=receiver), subject=subject
    ).exclude(status=DurableTask.Status.SUCCEEDED)
    given_up = Forgone.objects.filter(Q(name=task) | Q(name__in=REDELIVERIES, receiver=receiver), subject=subject)
    not_there_yet = Reaction.objects.filter(receiver=receiver, since__gt=OuterRef(moment))
    return Q(Exists(in_ledger)) | Q(Exists(given_up)) | Q(Exists(not_there_yet))
