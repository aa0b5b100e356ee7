"""
The Celery task behind each Django task: what a worker runs for its rows.

It is created when Django's task is declared, which may be before models can be imported.

It has the name of Django's task, its module path, and so is known wherever that module is imported: a worker imports
the ``tasks`` of every application. Options of the ledger are read when Django's task is made.
"""

from collections.abc import Callable
from typing import Any

from celery import shared_task
from django.utils import timezone

from celery_ledger.backend import LedgerBackend as ResultBackend
from celery_ledger.contrib.django_tasks.definition import said_by
from celery_ledger.contrib.django_tasks.framework import InvalidTask, base, normalize_json, signals
from celery_ledger.project import find_app
from celery_ledger.retries import BRISK
from celery_ledger.task import Task

__all__ = ["known", "named", "note"]

#: The declared tasks, by module path.
_declared: dict[str, Any] = {}


class Body(Task):
    """The base class of these tasks."""

    abstract = True
    #: Arguments that do not fit the signature fail the task, as in every backend of Django's.
    typing = False
    ignore_result = False
    has_own_results = True
    store_errors_even_if_ignored = True

    @property
    def backend(self) -> Any:
        """The ledger's own backend: Django's results are read from its rows, whatever Celery's backend is."""
        if self._backend is None:
            self._backend = ResultBackend(self.app)
        return self._backend

    @backend.setter
    def backend(self, chosen: Any) -> None:
        self._backend = chosen

    @property
    def declared(self) -> Any:
        """The Django task, as declared."""
        return _declared[self.name]

    def body(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of the Django task; return what is stored of the result."""
        task = self.declared
        if self.batch_size > 1:
            task.call(*args)
            return None
        from celery_ledger.contrib.django_tasks import answers

        if task.takes_context:
            result = answers.under_way(task, self.request, list(args), kwargs)
            args = (base.TaskContext(task_result=result), *args)
        value = normalize_json(task.call(*args, **kwargs))
        return answers.kept(value, self.request)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Send the signal that the task has started."""
        from celery_ledger.contrib.django_tasks import answers

        self.request.began_at = timezone.now()
        result = answers.under_way(self.declared, self.request, args, kwargs)
        signals().task_started.send_robust(sender=type(result.task.get_backend()), task_result=result)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Send the signal that the task has succeeded."""
        from celery_ledger.contrib.django_tasks import answers

        self._tell_end(answers.succeeded(self.declared, self.request, args, kwargs, retval))

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Send the signal that the task has failed permanently."""
        from celery_ledger.contrib.django_tasks import answers

        self._tell_end(answers.failed(self.declared, self.request, args, kwargs, exc, einfo))

    def _tell_end(self, result: Any) -> None:
        signals().task_finished.send_robust(sender=type(result.task.get_backend()), task_result=result)


def note(task: Any, defaults: dict[str, Any]) -> None:
    """
    Register a Django task with workers when it is declared.

    Raises:
        InvalidTask: its options contradict each other.
    """
    path = task.module_path
    known = _declared.get(path)
    if known is not None and known.func is task.func:
        return
    options = _celerys(task, said_by(task, defaults))
    _declared[path] = task
    if known is None:
        shared_task(name=path, base=Body, bind=True, **options)(_runner(task.func))


def _runner(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Body, *args: Any, **kwargs: Any) -> Any:
        return self.body(*args, **kwargs)

    run.__name__, run.__qualname__ = function.__name__, function.__qualname__
    run.__module__, run.__doc__ = function.__module__, function.__doc__
    return run


def _celerys(task: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return options in the form that Celery's tasks use."""
    batch_size = options.get("batch_size", 1)
    if batch_size > 1 and not options.get("transactional"):
        raise InvalidTask(f"{task.module_path}: a batch is one transaction, so batch_size requires transactional=True.")
    if batch_size > 1 and task.takes_context:
        raise InvalidTask(f"{task.module_path}: a batch has no single context.")
    most = options.pop("max_retries", None)
    if most:
        options |= {"max_retries": most, "retries": options.get("retries") or BRISK}
    elif most == 0:
        options.pop("retries", None)
    return options


def known(path: str) -> Any:
    """Return the declared Django task with this path; None: this process has none."""
    return _declared.get(path)


def named(path: str) -> Body:
    """Return the Celery task of a Django task. Raises what :func:`celery_ledger.project.find_app` raises."""
    body: Body = find_app().tasks[path]
    return body
