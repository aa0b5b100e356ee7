"""
Ordinary Celery tasks, made durable.

``app = Celery("proj", task_cls="celery_ledger:Task")`` and ``INSTALLED_APPS += ["celery_ledger"]``: the names below
are documented where they are defined. Importing this package imports no model and creates no Celery app.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_ledger.desk.cancelling import cancel
    from celery_ledger.errors import PermanentError
    from celery_ledger.models import Priority
    from celery_ledger.rows.outbox import collecting
    from celery_ledger.signals import DurableSignal
    from celery_ledger.task import Task

__all__ = ["DurableSignal", "PermanentError", "Priority", "Task", "cancel", "collecting"]

_HOMES = {
    "DurableSignal": "celery_ledger.signals",
    "PermanentError": "celery_ledger.errors",
    "Priority": "celery_ledger.models",
    "Task": "celery_ledger.task",
    "cancel": "celery_ledger.desk.cancelling",
    "collecting": "celery_ledger.rows.outbox",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use: models cannot be imported before Django's apps are ready."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
