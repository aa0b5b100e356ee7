"""
Promises that ``manage.py outbox verify`` checks against the database.

Each app registers its own in ``ready()``; this package knows only the ledger's.
"""

from collections.abc import Callable, Iterable

from django.db.models import CharField, Exists, OuterRef, Q, Value
from django.db.models.functions import Cast, Concat

from worker.models import DurableTask

Violations = Callable[[], Iterable[str]]

_promises: dict[str, Violations] = {}


def register(promise: str, violations: Violations) -> None:
    """
    Have ``promise``, a sentence, checked: ``violations`` yields a line for each thing that breaks it.

    Raises:
        ValueError: somebody else registered the same sentence.
    """
    if _promises.setdefault(promise, violations) is not violations:
        raise ValueError(f"The promise {promise!r} is registered already.")


def promises() -> dict[str, Violations]:
    """Return every registered promise with the function that finds what breaks it."""
    return dict(_promises)


def is_owed(task: str, *, receiver: str, model: str = "store.order") -> Exists:
    """
    Return the condition, for a query of ``model``, that the ledger accounts for what a row lacks.

    ``task`` has still to run, or was given up by a dead letter that a person knows of; or the ``receiver``
    that would enqueue it failed and is to be sent its signal again.
    """
    return Exists(
        DurableTask.objects.filter(
            Q(name=task) | Q(name="worker.tasks.redeliver", kwargs__dispatch_uid=receiver),
            subject=Concat(Value(f"{model}:"), Cast(OuterRef("pk"), CharField())),
        ).exclude(status=DurableTask.Status.SUCCEEDED)
    )
