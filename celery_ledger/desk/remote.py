"""
What a worker does when it is told to revoke: ``celery -A proj control revoke ID``, and older clients.

Imported as a part of a worker, so that it takes the place of Celery's own commands, which write REVOKED and have
messages dropped whose rows the ledger would publish again and again.
"""

from collections.abc import Iterable
from typing import Any

from celery import bootsteps
from celery.worker.control import control_command, nok, ok
from django.db import close_old_connections

from celery_ledger.desk import control


class CommandsStep(bootsteps.Step):
    """Part of a worker: importing it puts the commands below in the place of Celery's."""


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(state: Any, task_id: str | Iterable[str], terminate: bool = False, signal: Any = None, **_: Any) -> Any:
    """Cancel tasks that wait. Every worker that is told does so; the first finds something to do."""
    close_old_connections()
    try:
        return ok(control.revoke(task_id, terminate=terminate))
    except control.CannotRevokeError as error:
        return nok(str(error))


@control_command(variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]")
def terminate(state: Any, signal: Any, task_id: str | Iterable[str], **_: Any) -> Any:
    """Cancel tasks that wait, and say of those that run that they are let end."""
    return revoke(state, task_id, terminate=True)


@control_command(variadic="headers", signature="[key1=value1 [key2=value2 [... [keyN=valueN]]]]")
def revoke_by_stamped_headers(state: Any, headers: Any, **_: Any) -> Any:
    """Refuse: rows have no stamps."""
    return nok("Tasks of the ledger have no stamps; revoke them by their ids.")
