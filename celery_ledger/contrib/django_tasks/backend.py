"""The backend that ``TASKS`` names."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from celery.result import EagerResult
from django.apps import apps
from django.core import checks
from django.utils.module_loading import import_string

from celery_ledger.contrib.django_tasks.definition import OPTIONS, LedgerTask
from celery_ledger.contrib.django_tasks.framework import InvalidTask, backends, base, exceptions, signals
from celery_ledger.project import AppNotFoundError, find_app

__all__ = ["LedgerBackend"]

Base: Any = backends.BaseTaskBackend


class LedgerBackend(Base):
    """
    Stores Django's tasks in the ledger, to be run by the project's Celery workers.

    ``enqueue`` writes a row of the current transaction. A queue is Celery's queue of the same name; ``default`` means
    ``task_default_queue`` unless the project has a queue called ``default``. ``OPTIONS`` are the defaults of the
    ledger's options for all tasks; see :class:`LedgerTask`.
    """

    task_class = LedgerTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def validate_task(self, task: Any) -> None:
        """Refuse a task that cannot be run, and register it here. Raises ``InvalidTask``, as Django specifies."""
        from celery_ledger.contrib.django_tasks import body

        super().validate_task(task)
        body.note(task, self._defaults())

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """
        Write a call as a row in the current transaction.

        Raises:
            InvalidTask: the task cannot be run here, or Celery has no such queue.
            TypeError: an argument is not JSON, or a batched task is not given just one.
        """
        from celery_ledger.contrib.django_tasks import answers, body

        self.validate_task(task)
        result = answers.ready(task, "", args, kwargs)
        celerys = body.named(task.module_path)
        queue = self._queue(celerys.app, task.queue_name)
        if not _has_queue(celerys.app, queue):
            raise InvalidTask(f"Celery has no queue {queue!r}; there are {', '.join(sorted(celerys.app.amqp.queues))}.")
        handle = celerys.apply_async(
            result.args,
            result.kwargs,
            priority=_priority(task.priority),
            queue=queue,
            eta=task.run_after,
            headers=answers.headers_of(task, body.known(task.module_path)) or None,
        )
        object.__setattr__(result, "id", str(handle.id))
        object.__setattr__(result, "enqueued_at", answers.made_at(handle.id) or result.enqueued_at)
        if isinstance(handle, EagerResult):
            _see_end(result, handle)
        signals().task_enqueued.send_robust(sender=type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """
        Return the outcome of a call.

        Raises:
            TaskResultDoesNotExist: the ledger has no such call, or it is not one of this backend's tasks.
        """
        from celery_ledger.rows import homes

        id = _uuid(result_id)
        result = homes.first(lambda: _result_of(id)) if id is not None else None
        if result is None or result.backend != self.alias:
            raise exceptions.TaskResultDoesNotExist(result_id)
        return result

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """Report settings that would prevent tasks from running."""
        yield from super().check(**kwargs)
        if not apps.is_installed("celery_ledger"):
            yield checks.Error(
                f"The backend {self.alias!r} of TASKS keeps tasks in celery_ledger, which is not installed.",
                hint='INSTALLED_APPS += ["celery_ledger"]',
                id="celery_ledger.E023",
            )
        if strange := self.options.keys() - OPTIONS:
            yield checks.Error(
                f"The backend {self.alias!r} of TASKS has no OPTIONS called {', '.join(sorted(strange))}.",
                hint=f"There are {', '.join(sorted(OPTIONS))}.",
                id="celery_ledger.E024",
            )
        try:
            app = find_app()
        except AppNotFoundError as error:
            yield checks.Error(
                f"The backend {self.alias!r} of TASKS runs its tasks in Celery's workers, but there is no Celery app.",
                hint=str(error),
                id="celery_ledger.E025",
            )
            return
        if unknown := [name for name in sorted(self.queues) if not _has_queue(app, self._queue(app, name))]:
            yield checks.Warning(
                f"The backend {self.alias!r} of TASKS has queues that Celery does not have: {', '.join(unknown)}.",
                hint="Add them to CELERY_TASK_QUEUES and let workers consume them, or remove them from QUEUES.",
                id="celery_ledger.W026",
            )

    def _defaults(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name in OPTIONS}

    def _queue(self, app: Any, name: str) -> str:
        if name == base.DEFAULT_TASK_QUEUE_NAME and name not in app.amqp.queues:
            return str(app.conf.task_default_queue)
        return name


def _result_of(id: UUID) -> Any:
    """Return the result of a call in the database in use; None: it has no such call of a known task."""
    from celery_ledger.contrib.django_tasks import answers
    from celery_ledger.models import DurableTask

    row = DurableTask.objects.filter(id=id).first()
    declared = _declared(row.name) if row is not None else None
    return answers.of_row(row, declared) if row is not None and declared is not None else None


def _has_queue(app: Any, name: str) -> bool:
    return bool(app.conf.task_create_missing_queues or name in app.amqp.queues)


def _see_end(result: Any, handle: EagerResult) -> None:
    """Update the result of a call that Celery ran at once because it is set to run tasks without a worker."""
    from celery_ledger.contrib.django_tasks import answers

    has_succeeded = handle.successful()
    object.__setattr__(result, "status", answers.Status.SUCCESSFUL if has_succeeded else answers.Status.FAILED)
    if has_succeeded and answers.is_kept(handle.result):
        object.__setattr__(result, "_return_value", handle.result["return_value"])


def _priority(priority: int) -> int:
    from celery_ledger.contrib.django_tasks.priorities import of_the_row

    return of_the_row(priority)


def _declared(path: str) -> Any:
    """Return the Django task with this path, whose module may not be imported yet; None: there is none."""
    from celery_ledger.contrib.django_tasks import body

    if (task := body.known(path)) is None:
        try:
            found = import_string(path)
        except (ImportError, AttributeError):
            return None
        task = found if isinstance(found, base.Task) else None
    return task


def _uuid(id: Any) -> UUID | None:
    try:
        return UUID(str(id))
    except ValueError:
        return None
