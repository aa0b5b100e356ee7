"""
The ledger as a result backend: for projects that have none, so that ``AsyncResult`` can read the ledger.

Processes only read from it. The consumer writes a task's result in the transaction that ends the task, and
``update_state`` writes its progress. It knows nothing about tasks that are not durable.
"""

from collections.abc import Callable
from datetime import timedelta
from types import MethodType
from typing import Any

from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import Ignore, TaskRevokedError
from celery.result import result_from_tuple
from django.apps import apps
from django.utils import timezone

from celery_ledger import databases
from celery_ledger.databases import connection
from celery_ledger.ids import row_id
from celery_ledger.project import is_in_the_database

__all__ = ["LedgerBackend", "backend"]

#: The columns of a row that a result needs, and what was recorded when it ended.
_ROW = """
    SELECT task.id, task.name, task.queue, task.args, task.kwargs, task.status, task.attempts, task.last_error,
           task.completed_at, result.state AS said, result.value, result.traceback
    FROM celery_ledger_durabletask AS task LEFT JOIN celery_ledger_result AS result ON result.id = task.id
    WHERE task.id = %s
"""


def backend(**options: Any) -> Any:
    """
    Return the backend of an app whose project names none; Celery calls it like a class.

    If django-celery-results is installed, its own model is used: the ledger writes results there in any case.
    """
    if apps.ready and apps.is_installed("django_celery_results"):
        from django_celery_results.backends import DatabaseBackend

        return DatabaseBackend(**options)
    return LedgerBackend(**options)


def waiting_by_the_ledger(backend: Any) -> Any:
    """Make a backend of django-celery-results, whose rows the ledger writes, wait as :class:`LedgerBackend` does."""
    if is_in_the_database(backend):
        backend.wait_for = MethodType(LedgerBackend.wait_for, backend)
    return backend


class LedgerBackend(BaseBackend):
    """Results of durable tasks, read from their rows: for ``result_expires``, at most as long as the rows exist."""

    #: Callers need not know this class; see :func:`celery_ledger.rows.results.are_own`.
    is_the_ledgers = True
    #: Results are pruned with their rows, so beat has nothing to clean up.
    supports_autoexpire = True

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **(options | {"serializer": "json", "accept": ["json"]}))

    def as_uri(self, include_password: bool = False) -> str:
        """Return the text for a worker's banner."""
        return "ledger://"

    def store_result(self, task_id: Any, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        """Do nothing: the consumer has written the result, and plain tasks have no results here."""
        return result

    def ensure_chords_allowed(self) -> None:
        """Allow chords: the ledger counts their parts."""

    def _save_group(self, group_id: str, result: Any) -> Any:
        from celery_ledger.models import KeptGroup

        kept = KeptGroup(id=str(group_id), result=self.encode({"result": result.as_tuple()}))
        KeptGroup.objects.using(databases.for_calls()).bulk_create(
            [kept], update_conflicts=True, unique_fields=["id"], update_fields=["result", "saved_at"]
        )
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        from celery_ledger.models import KeptGroup
        from celery_ledger.rows import homes

        kept = homes.first(lambda: KeptGroup.objects.filter(id=str(group_id)).first())
        if kept is None:
            return None
        said = self.decode(kept.result)
        return {"task_id": group_id, "result": result_from_tuple(said["result"], self.app)}

    def _delete_group(self, group_id: str) -> None:
        from celery_ledger.models import KeptGroup

        for _ in databases.each(lambda: KeptGroup.objects.filter(id=str(group_id)).delete()):
            pass

    def wait_for(
        self,
        task_id: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> Any:
        """
        Return a task's result when it has ended, on PostgreSQL right after the commit.

        No notification says that a plain task has ended: it looks at least every ``interval`` seconds.

        Raises:
            celery.exceptions.TimeoutError: the task did not end in time.
        """
        from celery_ledger.waiting import wait_for

        return wait_for(self, task_id, timeout, longest=interval, on_interval=on_interval)

    def _get_task_meta_for(self, task_id: Any) -> dict[str, Any]:
        with databases.using(_home(task_id)):
            return self._get_task_meta_there(task_id)

    def _get_task_meta_there(self, task_id: Any) -> dict[str, Any]:
        from celery_ledger.models import DurableTask, Result
        from celery_ledger.rows import arguments

        unknown: dict[str, Any] = {"task_id": str(task_id), "status": states.PENDING, "result": None}
        id = row_id(task_id)
        key = id if connection.vendor == "postgresql" else id.hex
        # One statement, and a cheap one: a caller may be waiting.
        row: Any = next(iter(DurableTask.objects.using(connection.alias).raw(_ROW, [key])), None)
        if row is not None and self._is_expired(row):
            return unknown
        if row is None:
            said = Result.objects.using(connection.alias).filter(id=id).first()
            if said is None or said.state not in states.EXCEPTION_STATES:
                return unknown
            # It is part of a canvas and never ran, because something before it failed or was cancelled.
            return dict(self.meta_from_decoded({**unknown, "status": said.state, "result": self.decode(said.value)}))
        said = Result(state=row.said or "", value=row.value, traceback=row.traceback)
        meta = {"retries": max(0, row.attempts - 1), "queue": row.queue, "traceback": said.traceback}
        meta |= {"task_id": str(task_id), "name": row.name}
        meta |= {"args": arguments.revived(row.args), "kwargs": arguments.revived(row.kwargs)}
        state, value = _END[row.status](row, said) if row.status in _END else _under_way(row, said)
        if state == said.state:
            value = self.decode(said.value) if said.value else None
        if row.status in _END and said.state == states.PENDING:
            return unknown  # It was forgotten.
        if state == states.FAILURE != said.state:
            meta["traceback"] = row.failed_attempts.values_list("traceback", flat=True).last()
        if state in states.READY_STATES:
            meta["date_done"] = row.completed_at
        meta |= {"status": state, "result": value}
        return dict(self.meta_from_decoded(meta))

    def _is_expired(self, row: Any) -> bool:
        ended = row.completed_at
        return bool(self.expires and ended and ended < timezone.now() - timedelta(seconds=self.expires))

    def _forget(self, task_id: Any) -> None:
        """Forget a task's result and that it ended; its row stays, because it belongs to the ledger."""
        with databases.using(_home(task_id)):
            self._forget_there(task_id)

    def _forget_there(self, task_id: Any) -> None:
        from celery_ledger.models import DurableTask, Result

        id = row_id(task_id)
        row = DurableTask.objects.filter(id=id).only("status").first()
        if row is not None and row.status in _END:
            # In one statement: on SQLite, a transaction that reads first and then writes may be refused.
            Result.objects.bulk_create(
                [Result(id=id, state=states.PENDING)],
                update_conflicts=True,
                unique_fields=["id"],
                update_fields=["state", "value", "traceback"],
            )
        else:
            Result.objects.filter(id=id).delete()


def _home(task_id: Any) -> str:
    from celery_ledger.rows import homes

    return homes.of(row_id(task_id))


def _succeeded(row: Any, said: Any) -> tuple[str, Any]:
    # The body set its own state with update_state and then raised Ignore so that the state stays.
    has_said = said.state and row.last_error.partition(":")[0] == Ignore.__name__
    return (said.state if has_said else states.SUCCESS), None


def _dead(row: Any, said: Any) -> tuple[str, Any]:
    kind, _, words = row.last_error.partition(": ")
    return states.FAILURE, {"exc_type": kind or "Exception", "exc_module": "builtins", "exc_message": [words]}


def _cancelled(row: Any, said: Any) -> tuple[str, Any]:
    # A dead letter that was given up counts as failed.
    return (said.state if said.state == states.FAILURE else states.REVOKED), TaskRevokedError(row.last_error)


def _under_way(row: Any, said: Any) -> tuple[str, Any]:
    if said.state and said.state not in states.READY_STATES:
        return said.state, None
    return (states.RETRY if row.status == "pending" and row.attempts else states.PENDING), None


#: The state and value reported for a row that has ended, unless its result says otherwise.
_END: dict[str, Callable[[Any, Any], tuple[str, Any]]] = {
    "succeeded": _succeeded,
    "dead": _dead,
    "cancelled": _cancelled,
}
