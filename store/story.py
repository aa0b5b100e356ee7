"""Descriptions of an order's tasks; customers see no internal details."""

from typing import Final

from celery import current_app

from celery_ledger.models import DurableTask

#: What an error means to the customer. The error itself is shown only to staff.
TRIED_AGAIN: Final = "This step failed and will be retried automatically."
LOOKED_INTO: Final = "This step failed. Our staff are looking into it."


def label_of(name: str) -> str:
    """Return the label of the task with that name, or else the last part of its name as words."""
    said: str = getattr(current_app.tasks.get(name), "label", "")
    return said or name.rpartition(".")[2].replace("_", " ").strip().capitalize()


def trouble_of(task: DurableTask) -> str:
    """Return an explanation of a task's last error for customers; empty if it has been resolved."""
    if not task.last_error:
        return ""
    if task.status == DurableTask.Status.DEAD:
        return LOOKED_INTO
    return "" if task.completed_at else TRIED_AGAIN
