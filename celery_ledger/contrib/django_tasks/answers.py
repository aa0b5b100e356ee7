"""
Django's ``TaskResult``, built from the rows of the ledger or, in a worker, from the running call.

The result of a successful run also says when the run began and on which worker; for a failed one, its attempts do. Only
a run with effects outside the database is ever seen as running: one inside a transaction is ready until the transaction
has committed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard
from uuid import UUID

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from celery_ledger.contrib.django_tasks.framework import base
from celery_ledger.models import DurableTask, FailedAttempt, Result
from celery_ledger.rows import arguments
from celery_ledger.rows.wording import traceback_of

__all__ = ["failed", "headers_of", "is_kept", "kept", "made_at", "of_row", "succeeded", "under_way"]

#: The header that says how a task was called, if not as it was declared.
HEADER: Final = "django-tasks"
Status: Any = base.TaskResultStatus
_STATUSES: Final = {
    DurableTask.Status.PENDING: Status.READY,
    DurableTask.Status.PUBLISHED: Status.READY,
    DurableTask.Status.RUNNING: Status.RUNNING,
    DurableTask.Status.SUCCEEDED: Status.SUCCESSFUL,
    DurableTask.Status.DEAD: Status.FAILED,
    DurableTask.Status.CANCELLED: Status.FAILED,
}
_CANCELLED: Final = "celery.exceptions.TaskRevokedError"


def headers_of(task: Any, declared: Any) -> dict[str, Any]:
    """Return the headers of a call of ``task``, from which its result can tell how it was called."""
    said = {name: getattr(task, name) for name in ("priority", "queue_name", "backend")}
    changed = {name: value for name, value in said.items() if value != getattr(declared, name)}
    if task.run_after is not None:
        changed["run_after"] = task.run_after.isoformat()
    return {HEADER: changed} if changed else {}


def ready(task: Any, id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the result of a call that is being enqueued."""
    return _result(task, id, Status.READY, args, kwargs, enqueued_at=timezone.now())


def under_way(declared: Any, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the result of a running call."""
    return _of_request(declared, request, Status.RUNNING, args, kwargs)


def succeeded(declared: Any, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any], value: Any) -> Any:
    """Return the result of a call that has succeeded and is committed."""
    result = _of_request(declared, request, Status.SUCCESSFUL, args, kwargs, finished_at=timezone.now())
    object.__setattr__(result, "_return_value", value["return_value"] if is_kept(value) else None)
    return result


def failed(
    declared: Any, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any], error: BaseException, info: Any
) -> Any:
    """Return the result of a call that has failed permanently and is committed."""
    kind = type(error)
    told = base.TaskError(
        exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
        traceback=str(getattr(info, "traceback", "") or traceback_of(error)),
    )
    return _of_request(declared, request, Status.FAILED, args, kwargs, finished_at=timezone.now(), errors=[told])


def kept(value: Any, request: Any) -> dict[str, Any]:
    """Return what is stored of a successful run: the value, its start, and its worker."""
    return {"return_value": value, "began_at": _began(request).isoformat(), "worker": str(request.hostname or "")}


def is_kept(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether this is what :func:`kept` returns."""
    return isinstance(value, dict) and value.keys() == {"return_value", "began_at", "worker"}


def of_row(row: DurableTask, declared: Any) -> Any:
    """Return the result of the call that a row is."""
    failures = list(FailedAttempt.objects.filter(task_id=row.id).order_by("id"))
    workers = {failure.number: failure.worker for failure in failures}
    began = [failure.published_at or failure.failed_at for failure in failures]
    last = _last(row)
    if row.status == DurableTask.Status.SUCCEEDED:
        workers[row.attempts] = last["worker"]
    moment = parse_datetime(last["began_at"]) if last["began_at"] else None
    if row.status in (DurableTask.Status.RUNNING, DurableTask.Status.SUCCEEDED):
        began += [at for at in (moment, row.published_at, row.completed_at) if at is not None][:1]
    errors = [
        base.TaskError(exception_class_path=_class_of(failure), traceback=failure.traceback) for failure in failures
    ]
    if row.status == DurableTask.Status.CANCELLED:
        errors.append(base.TaskError(exception_class_path=_CANCELLED, traceback=row.last_error))
    result = _result(
        _as_called(declared, row.options),
        str(row.id),
        _STATUSES[DurableTask.Status(row.status)],
        arguments.revived(row.args),
        arguments.revived(row.kwargs),
        enqueued_at=made_at(row.id) or row.created_at,
        started_at=began[0] if began else None,
        last_attempted_at=began[-1] if began else None,
        # SQLite's clock counts milliseconds, and a quick task ends in the one in which it began.
        finished_at=row.completed_at and max([row.completed_at, *began[-1:]]),
        errors=errors,
        worker_ids=[workers.get(number, "") for number in range(1, row.attempts + 1)],
    )
    if row.status == DurableTask.Status.SUCCEEDED:
        object.__setattr__(result, "_return_value", last["return_value"])
    return result


def _last(row: DurableTask) -> dict[str, Any]:
    """Return what is stored of the successful run; batches store nothing."""
    said = Result.objects.filter(id=row.id).first()
    value = json.loads(said.value) if said is not None and said.value and said.state == "SUCCESS" else None
    return value if is_kept(value) else {"return_value": value, "began_at": "", "worker": ""}


def _of_request(
    declared: Any, request: Any, status: Any, args: Sequence[Any], kwargs: Mapping[str, Any], **others: Any
) -> Any:
    began = _began(request)
    before = request.retries or 0
    earlier: list[str] = [""] * before
    if before:
        for failure in FailedAttempt.objects.filter(task_id=request.id, number__lte=before):
            earlier[failure.number - 1] = failure.worker
    return _result(
        _as_called(declared, {"headers": request.headers}),
        str(request.id),
        status,
        args,
        kwargs,
        enqueued_at=made_at(request.id),
        started_at=began,
        last_attempted_at=began,
        worker_ids=[*earlier, str(request.hostname or "")],
        **others,
    )


def _result(
    task: Any,
    id: str,
    status: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    enqueued_at: datetime | None = None,
    started_at: datetime | None = None,
    last_attempted_at: datetime | None = None,
    finished_at: datetime | None = None,
    errors: list[Any] | None = None,
    worker_ids: list[str] | None = None,
) -> Any:
    return base.TaskResult(
        task=task,
        id=id,
        status=status,
        enqueued_at=enqueued_at,
        started_at=started_at,
        last_attempted_at=last_attempted_at,
        finished_at=finished_at,
        args=list(args),
        kwargs=dict(kwargs),
        backend=task.backend,
        errors=errors or [],
        worker_ids=worker_ids or [],
    )


def _as_called(declared: Any, options: Mapping[str, Any] | None) -> Any:
    changed = dict(((options or {}).get("headers") or {}).get(HEADER) or {})
    if "run_after" in changed:
        changed["run_after"] = parse_datetime(changed["run_after"])
    return replace(declared, **changed) if changed else declared


def _began(request: Any) -> datetime:
    began: datetime = getattr(request, "began_at", None) or timezone.now()
    return began


def made_at(id: Any) -> datetime | None:
    """Return the time encoded in a row's id; None: it has none."""
    known = UUID(str(id))
    return datetime.fromtimestamp((known.int >> 80) / 1000, tz=UTC) if known.version == 7 else None


def _class_of(failure: FailedAttempt) -> str:
    """Return the path of an error's class; the module comes from the traceback, if the class has one."""
    kind = failure.error.partition(":")[0]
    found = re.findall(rf"^((?:[\w<>]+\.)*{re.escape(kind)})(?::|$)", failure.traceback, re.MULTILINE)
    path: str = found[-1] if found else kind
    return path if "." in path else f"builtins.{path or 'Exception'}"
