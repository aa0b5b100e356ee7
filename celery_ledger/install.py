"""
Installation in a Celery app, done by the first task class that the app derives from ours.

It fills in what the project has not set, adds its boot steps to the project's, and wraps one of the project's classes
in one of its own; it replaces nothing that the project chose. See docs/adr/0013.
"""

import functools
from collections.abc import Sequence
from typing import Any

import celery
from celery import Celery
from celery.app.defaults import _TO_OLD_KEY
from celery.result import AsyncResult
from kombu.utils.imports import symbol_by_name

from celery_ledger.project import import_tasks

#: Defaults below the project's own settings: short leases on messages, and workers that wait for an unavailable broker.
DEFAULTS = {
    "broker_channel_error_retry": True,  # READONLY, MISCONF, NOREPLICAS: wait for a Redis that refuses.
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    # In a project without a result backend, AsyncResult reports what the ledger knows.
    "result_backend": "celery_ledger.backend:backend",
    # A short loss of the broker does not justify ending running tasks: a mail being sent would go out twice.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # Celery would take fewer messages after each loss of the broker; on RabbitMQ that is never undone.
    "worker_enable_prefetch_count_reduction": False,
    "worker_lost_wait": 0.5,  # seconds until a dead child process counts as dead; Celery waits 10
    "worker_prefetch_multiplier": 1,
}
WORKER_STEPS = {
    "celery_ledger.work.bootsteps:ClassesStep",
    "celery_ledger.work.bootsteps:ConnectionsStep",
    "celery_ledger.work.bootsteps:PrefetchStep",
    "celery_ledger.work.bootsteps:HeartbeatStep",
    "celery_ledger.desk.remote:CommandsStep",
}
CONSUMER_STEPS = {"celery_ledger.work.bootsteps:LoopStep"}


def install(app: Celery) -> None:
    """
    Make ``app`` send, run and revoke durable tasks through the ledger. Further calls change nothing.

    Called for an app whose ``task_cls`` derives from :class:`celery_ledger.Task`, when the app creates its own class
    from it.
    """
    if "celery_ledger" in app.__dict__:
        return
    app.celery_ledger = True
    _lay_below_the_settings(app)
    # Relays name the ledger's own tasks in messages, and not every project calls ``autodiscover_tasks``.
    app.loader.builtin_modules |= {"celery_ledger.tasks"}
    app.steps["worker"].update(WORKER_STEPS)
    app.steps["consumer"].update(CONSUMER_STEPS)
    app.send_task = _durable_send_task(app, app.send_task)
    symbol_by_name("celery_ledger.canvas:install")(app)
    app.control_cls = wrapped(app.control_cls, "celery_ledger.desk.control:Control")
    app.__dict__.pop("control", None)  # If one was created before, it is created again.


def _lay_below_the_settings(app: Celery) -> None:
    """Change Celery's own defaults, which have the lowest priority; ``app.add_defaults`` would override the project."""

    def lay(sender: Any, source: Any, **_: Any) -> None:
        defaults = source.maps[-1]
        # By Celery's old names if the project uses those; otherwise these defaults would win over the project's
        # settings.
        defaults.update({name if name in defaults else _TO_OLD_KEY[name]: value for name, value in DEFAULTS.items()})

    if app.configured:
        lay(app, app.conf)
    else:
        app.on_after_configure.connect(lay, weak=False)


def _durable_send_task(app: Celery, send_task: Any) -> Any:
    @functools.wraps(send_task)
    def durable_send_task(
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        countdown: float | None = None,
        eta: Any = None,
        task_id: str | None = None,
        **options: Any,
    ) -> AsyncResult:
        """
        Enqueue a call of the task ``name``, as a part of the current transaction.

        A task unknown to this process gets its row all the same, for workers that know it; whether the arguments fit
        cannot be checked here. Raises what ``Task.apply_async`` raises.
        """
        if isinstance(options.get("task_type"), celery.Task) and getattr(options["task_type"], "durable", False):
            # Celery's own ``apply_async``, which tracing tools wrap, ends here.
            return options.pop("task_type").enqueue(
                args, kwargs, task_id, {**options, "countdown": countdown, "eta": eta}
            )
        if name not in app.tasks:
            import_tasks()
        task = app.tasks.get(name)
        if task is None and getattr(app.Task, "durable", False):
            task = type("Unknown", (app.Task,), {"name": name, "typing": False})()
        if not getattr(task, "durable", False):
            send = symbol_by_name("celery_ledger.canvas:send_plainly")
            return send(functools.partial(send_task, name), args, kwargs, countdown, eta, task_id, options)
        return task.apply_async(args, kwargs, task_id, countdown=countdown, eta=eta, **options)

    return durable_send_task


def wrapped(theirs: Any, ours: str) -> type:
    """Return the class that ``theirs`` is or names, with the class that ``ours`` names mixed in unless it is there."""
    chosen: type = symbol_by_name(theirs)
    added: type = symbol_by_name(ours)
    if issubclass(chosen, added):
        return chosen
    return (
        added if issubclass(added, chosen) else type(added.__name__, (added, chosen), {"__module__": added.__module__})
    )
