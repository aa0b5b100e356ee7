"""Which of several databases an operator's page or request is about."""

from uuid import UUID

from celery_ledger import databases
from celery_ledger.rows import homes


def chosen(said: str | None, *, task: UUID | None = None, canvas: UUID | None = None) -> str:
    """
    Return the database ``said``, or the one that has the task or the canvas, or the first one.

    Raises:
        LookupError: the database ``said`` has no ledger.
    """
    if said:
        if said not in databases.aliases():
            raise LookupError(f"The database {said!r} has no ledger; there are {', '.join(databases.aliases())}.")
        return said
    if task is not None:
        return homes.of(task)
    return homes.of_canvas(canvas) if canvas is not None else databases.current()
