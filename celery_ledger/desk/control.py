"""
Celery's ``revoke`` and what belongs to it, for rows of the ledger.

Celery would tell its workers to drop a message, and write REVOKED where the ledger publishes the row again. Here the
row is cancelled, in the caller's transaction, and what cannot be is refused.

Imported by every program of Celery's, of which some, such as ``celery status``, have no use for Django: the ledger is
imported when somebody revokes.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from celery.app import control
from kombu.utils.functional import maybe_list

REASON = "revoked"
Answer = TypeVar("Answer")


class CannotRevokeError(RuntimeError):
    """A worker has the task in its hands still, or the ledger does not know it: nothing was changed about it."""


class Control(control.Control):
    """Celery's, but that a task is revoked in the ledger. Named by the app in worker/celery.py."""

    def revoke(
        self, task_id: Any, destination: Any = None, terminate: bool = False, signal: Any = None, **kwargs: Any
    ) -> Any:
        """
        Cancel tasks that wait: whatever restarts, they never run. One that has ended stays as it is.

        ``terminate`` means one that runs as well: its process is sent ``signal``, and its success is not recorded.

        Raises:
            CannotRevokeError: of one that was to be terminated and did not end in time; and of an id that the ledger
                does not have, where the app has no tasks of Celery's own. Where it has some, Celery revokes those.
        """
        rows, others = _apart_from_loops(lambda: divide(self.app, task_id))
        replies: list[Any] = []
        if others:
            options = {"destination": destination, "terminate": terminate, **kwargs}
            replies += super().revoke(others, **options, **({"signal": signal} if signal else {})) or []
        if rows:
            told = _apart_from_loops(lambda: revoke(rows, terminate=terminate, signal=signal))
            replies.append({"ledger": {"ok": told}})
        return replies if kwargs.get("reply") else None

    def revoke_by_stamped_headers(self, headers: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Refuse: rows have no stamps.

        Raises:
            CannotRevokeError: always.
        """
        raise CannotRevokeError("Tasks of the ledger have no stamps; revoke them by their ids.")


def revoke(task_id: str | Iterable[str | UUID], *, terminate: bool = False, signal: Any = None) -> str:
    """
    Cancel the tasks of these ids, and return a line that says what became of them.

    Raises:
        CannotRevokeError: as of :meth:`Control.revoke`; what can be cancelled is all the same.
    """
    from django.db import connection

    from celery_ledger.desk import cancelling

    ids = parse_ids(task_id)
    try:
        cancelled = cancelling.cancel(ids, reason=REASON, terminate=terminate, signal=signal)
    except ValueError as error:
        raise CannotRevokeError(str(error)) from None
    under_way = unended(ids)
    if under_way and terminate and not connection.in_atomic_block:
        raise CannotRevokeError(f"Task {', '.join(under_way[:3])} is running still: it did not end in time.")
    return f"{cancelled} cancelled, {len(under_way)} running, {len(ids) - cancelled - len(under_way)} had ended"


def divide(app: Any, task_id: Any) -> tuple[list[UUID], list[str]]:
    """
    Return the rows that these ids name, and the ids of tasks of Celery's own, which no row has.

    Raises:
        CannotRevokeError: an id is of no row, and the app has no tasks but durable ones.
    """
    from celery_ledger.desk import cancelling
    from celery_ledger.models import DurableTask

    if all(getattr(task, "durable", False) for name, task in app.tasks.items() if not name.startswith("celery.")):
        return parse_ids(task_id), []
    given = list(dict.fromkeys(str(id) for id in maybe_list(task_id) or ()))
    ids = {id: UUID(id) for id in given if _is_of_a_row(id)}
    rows: set[UUID] = set()
    for start in range(0, len(given), cancelling.PORTION):
        portion = [ids[id] for id in given[start : start + cancelling.PORTION] if id in ids]
        rows.update(DurableTask.objects.filter(id__in=portion).values_list("id", flat=True))
    return [ids[id] for id in given if ids.get(id) in rows], [id for id in given if ids.get(id) not in rows]


def parse_ids(task_id: Any) -> list[UUID]:
    """
    Return the ids that Celery's ``revoke`` is given, each once.

    Raises:
        CannotRevokeError: one of them is none of a row.
    """
    return list(dict.fromkeys(_parse(id) for id in maybe_list(task_id) or ("",)))


def unended(ids: Sequence[UUID]) -> list[str]:
    """
    Return those of ``ids`` whose tasks have not ended.

    Raises:
        CannotRevokeError: the ledger does not have one of them.
    """
    from celery_ledger.desk import cancelling
    from celery_ledger.models import DurableTask

    statuses: dict[UUID, str] = {}
    for start in range(0, len(ids), cancelling.PORTION):
        portion = ids[start : start + cancelling.PORTION]
        statuses |= dict(DurableTask.objects.filter(id__in=portion).values_list("id", "status"))
    if unknown := [str(id) for id in ids if id not in statuses]:
        raise CannotRevokeError(
            f"The ledger has no task {', '.join(unknown[:3])}. Flower shows messages: see the admin."
        )
    return [str(id) for id in ids if statuses[id] in cancelling.UNENDED]


def _is_of_a_row(id: str) -> bool:
    try:
        return bool(UUID(id))
    except ValueError:
        return False


def _parse(id: Any) -> UUID:
    try:
        return UUID(str(id))
    except ValueError:
        raise CannotRevokeError(f"{id!r} is not the id of a task of the ledger.") from None


def _apart_from_loops(function: Callable[[], Answer]) -> Answer:
    """Call ``function``, in a thread of its own where this one runs an event loop, as Flower's does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()

    from django.db import connection

    def call_and_part() -> Answer:
        try:
            return function()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call_and_part).result()
