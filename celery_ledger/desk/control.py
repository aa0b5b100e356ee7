"""
Celery's ``revoke`` and related commands, for rows of the ledger.

Celery would tell its workers to drop a message and would record REVOKED, although the ledger publishes the row again.
Here the row is cancelled in the caller's transaction, and what cannot be cancelled is refused.

Every Celery program imports this module, and some, such as ``celery status``, do not need Django. So the ledger is
imported only when a task is revoked.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from celery.app import control
from kombu.utils.functional import maybe_list

from celery_ledger import databases
from celery_ledger.ids import row_id
from celery_ledger.loops import synchronously
from celery_ledger.project import import_tasks

logger = logging.getLogger(__name__)

REASON = "revoked"


class CannotRevokeError(RuntimeError):
    """A worker still holds the task, or the ledger does not know it: nothing was changed about it."""


class Control(control.Control):
    """Celery's control, except that tasks are revoked in the ledger. Installed as the app's ``control_cls``."""

    def revoke(
        self, task_id: Any, destination: Any = None, terminate: bool = False, signal: Any = None, **kwargs: Any
    ) -> Any:
        """
        Cancel waiting tasks permanently, across restarts. Tasks that have ended are unchanged.

        An unknown id only causes a warning, because Celery accepts it. With ``terminate``, a running task is cancelled
        too: its process is sent ``signal``, and its success is not recorded.

        Raises:
            CannotRevokeError: a task that was to be terminated did not end in time; or, of several databases, one that
                did not answer may have some of the tasks. All others are revoked.
        """
        rows, others = synchronously(lambda: divide(self.app, task_id))
        replies: list[Any] = []
        if others:
            options = {"destination": destination, "terminate": terminate, **kwargs}
            replies += super().revoke(others, **options, **({"signal": signal} if signal else {})) or []
        known, unknown = synchronously(lambda: _known(rows))
        unasked = synchronously(lambda: _revoke_unmade(unknown, others))
        if known:
            told = synchronously(lambda: revoke(known, terminate=terminate, signal=signal))
            replies.append({"ledger": {"ok": told}})
        if unasked:
            raise CannotRevokeError(unasked)
        return replies if kwargs.get("reply") else None

    def rate_limit(self, task_name: str, rate_limit: Any, destination: Any = None, **kwargs: Any) -> Any:
        """
        Limit the rate of a task in the whole cluster: see :func:`celery_ledger.desk.rates.set_rate`.

        Tasks that are not durable are limited in each worker, as always.

        Raises:
            ValueError: ``rate_limit`` is not a rate.
        """
        if not is_durable(self.app, task_name):
            return super().rate_limit(task_name, rate_limit, destination=destination, **kwargs)
        told = synchronously(lambda: set_rate(self.app, task_name, rate_limit))
        return [{name: {"ok": told}} for name in destination or ("ledger",)] if kwargs.get("reply") else None

    def purge(self, connection: Any = None) -> int:
        """
        Cancel the tasks that wait in the app's queues, and return how many: messages alone would come back.

        Tasks that are due later stay, like those that Celery's workers hold until their time. Messages of tasks that
        are not durable are deleted, and in that case the number returned includes all messages.
        """
        erased: int = super().purge(connection)
        # After the messages; otherwise rows published in between would lose theirs.
        cancelled = synchronously(lambda: _purge(self.app))
        return cancelled if are_all_durable(self.app) else erased + cancelled

    discard_all = purge

    def revoke_by_stamped_headers(
        self, headers: Any, destination: Any = None, terminate: bool = False, signal: Any = None, **kwargs: Any
    ) -> Any:
        """
        Revoke all calls, present and future, that carry one of these stamps, across restarts.

        With ``terminate``, running tasks are cancelled too. The stamps stay revoked for as long as ended tasks are
        kept (``LEDGER_RETENTION_DAYS``). If the app has tasks that are not durable, the workers also receive Celery's
        own command.
        """
        replies: list[Any] = []
        if not are_all_durable(self.app):
            options = {"destination": destination, "terminate": terminate, **kwargs}
            told = super().revoke_by_stamped_headers(headers, **options, **({"signal": signal} if signal else {}))
            replies += told or []
        said = synchronously(lambda: revoke_stamps(headers, terminate=terminate, signal=signal))
        return [*replies, {"ledger": {"ok": said}}] if kwargs.get("reply") else None


def revoke(task_id: str | Iterable[str | UUID], *, terminate: bool = False, signal: Any = None) -> str:
    """
    Cancel the tasks with these ids, and return a line that reports the outcomes.

    Raises:
        CannotRevokeError: as for :meth:`Control.revoke`; the tasks that can be cancelled are cancelled nevertheless.
    """
    from celery_ledger.databases import connection
    from celery_ledger.desk import cancelling

    ids = parse_ids(task_id)
    try:
        cancelled = cancelling.cancel(ids, reason=REASON, terminate=terminate, signal=signal)
    except (ValueError, databases.AwayError) as error:
        raise CannotRevokeError(str(error)) from None
    under_way = unended(ids)
    if under_way and terminate and not connection.in_atomic_block:
        raise CannotRevokeError(f"Task {', '.join(under_way[:3])} is still running: it did not stop in time.")
    return f"{cancelled} cancelled, {len(under_way)} running, {len(ids) - cancelled - len(under_way)} had ended"


def revoke_stamps(headers: Any, *, terminate: bool = False, signal: Any = None) -> str:
    """Revoke calls by their stamps, and return the line with which Celery reports it."""
    from celery_ledger.desk import cancelling
    from celery_ledger.rows import stamps

    statuses = cancelling.UNENDED if terminate else cancelling.WAITING

    def revoke() -> int:
        stamps.revoke(headers)
        carried = stamps.carriers(headers, statuses)
        return cancelling.cancel(carried, reason=REASON, terminate=terminate, signal=signal)

    cancelled = sum(count for _, count in databases.each(revoke))
    how = f"and {cancelled} cancelled" if cancelled else "but not terminated"
    return f"headers {headers} flagged as revoked, {how}"


def are_all_durable(app: Any) -> bool:
    """Whether all of the app's tasks are durable, except for Celery's own."""
    return all(getattr(task, "durable", False) for name, task in app.tasks.items() if not name.startswith("celery."))


def divide(app: Any, task_id: Any) -> tuple[list[UUID], list[str]]:
    """
    Return the rows that these ids name, and the ids of plain Celery tasks, which have no row.

    Raises:
        CannotRevokeError: an id belongs to no row, and all tasks of the app are durable.
    """
    from celery_ledger.desk import cancelling
    from celery_ledger.rows import homes

    if are_all_durable(app):
        return parse_ids(task_id), []
    given = list(dict.fromkeys(str(id) for id in maybe_list(task_id) or ()))
    ids = {id: row_id(id) for id in given}
    rows: set[UUID] = set()
    for start in range(0, len(given), cancelling.PORTION):
        portion = [ids[id] for id in given[start : start + cancelling.PORTION]]
        rows.update(homes.statuses(portion))
    return [ids[id] for id in given if ids[id] in rows], [id for id in given if ids[id] not in rows]


def is_durable(app: Any, name: str) -> bool:
    """Whether tasks of this name are rows; unknown names are if the app's tasks are."""
    if name not in app.tasks:
        import_tasks()
    return bool(getattr(app.tasks.get(name, app.Task), "durable", False))


def _purge(app: Any) -> int:
    from celery_ledger.desk import cancelling

    def purge() -> int:
        due = cancelling.due(queues=list(app.amqp.queues.consume_from))
        return max(cancelling.cancel_all(due, reason="purged"), default=0)

    return sum(count for _, count in databases.each(purge))


def set_rate(app: Any, name: str, rate: Any) -> str:
    """Set a task's rate in each database, and return a line about it. Raises ``ValueError`` for a rate that is none."""
    from celery_ledger.desk import rates

    said = [line for _, line in databases.each(lambda: rates.set_rate(app, name, rate))]
    return said[0]


def _known(ids: Sequence[UUID]) -> tuple[list[UUID], list[str]]:
    """Return the ids that the ledger has, and the others."""
    from celery_ledger.desk import cancelling
    from celery_ledger.rows import homes

    found: set[UUID] = set()
    for start in range(0, len(ids), cancelling.PORTION):
        portion = ids[start : start + cancelling.PORTION]
        found.update(homes.statuses(portion))
    return [id for id in ids if id in found], [str(id) for id in ids if id not in found]


def _revoke_unmade(unknown: Sequence[str], plain: Sequence[str]) -> str:
    """
    Revoke calls without a row that belong to a canvas and will be rows later; return which databases did not answer.

    A project may revoke tasks that were pruned, or never existed.
    """
    from celery_ledger.desk import cancelling

    try:
        for ids in (plain, unknown):
            later = set(cancelling.cancel_later(ids, reason=REASON) if ids else ())
    except databases.AwayError as error:
        return str(error)
    if missing := [id for id in unknown if id not in later]:
        logger.warning("The ledger has no task %s: there is nothing to revoke.", ", ".join(missing[:3]))
    return ""


def parse_ids(task_id: Any) -> list[UUID]:
    """Return the row ids for the ids passed to Celery's ``revoke``, without duplicates."""
    return list(dict.fromkeys(row_id(id) for id in maybe_list(task_id) or ("",)))


def unended(ids: Sequence[UUID]) -> list[str]:
    """
    Return those of ``ids`` whose tasks have not ended.

    Raises:
        CannotRevokeError: the ledger does not have one of them, or the database that has it did not answer.
    """
    from celery_ledger.desk import cancelling
    from celery_ledger.rows import homes

    statuses: dict[UUID, str] = {}
    away: dict[str, Exception] = {}
    for start in range(0, len(ids), cancelling.PORTION):
        found = homes.find(ids[start : start + cancelling.PORTION])
        statuses |= found.all()
        away |= found.away
    if away:
        raise CannotRevokeError(str(databases.AwayError(away)))
    if unknown := [str(id) for id in ids if id not in statuses]:
        raise CannotRevokeError(
            f"The ledger has no task {', '.join(unknown[:3])}. Flower shows messages: see the admin."
        )
    return [str(id) for id in ids if statuses[id] in cancelling.UNENDED]
