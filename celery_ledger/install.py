"""
Installation in a Celery app, done by the first task class that the app derives from ours.

It fills in what the project has not set, adds boot steps alongside the project's, and wraps a class of the project's in
one of its own; it replaces nothing that the project chose. See docs/adr/0013.
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

#: Below the project's own settings: workers that keep their messages short, and wait for a broker that is away.
DEFAULTS = {
    "broker_channel_error_retry": True,  # READONLY, MISCONF, NOREPLICAS: a Redis that refuses is waited for.
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    # Where a project has no backend, its AsyncResult says what the ledger knows.
    "result_backend": "celery_ledger.backend:backend",
    # A broker's blip does not justify ending running tasks: a mail under way would go out twice.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # Celery would take fewer messages after each loss of the broker; on RabbitMQ it stays at that.
    "worker_enable_prefetch_count_reduction": False,
    "worker_lost_wait": 0.5,  # seconds until a dead child counts as dead; Celery waits 10
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

    Called for an app whose ``task_cls`` derives from :class:`celery_ledger.Task`, when it makes that class its own.
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
    app.__dict__.pop("control", None)  # One that was made before is made again.


def _lay_below_the_settings(app: Celery) -> None:
    """Change Celery's own defaults, which have the lowest priority; ``app.add_defaults`` would override the project."""

    def lay(sender: Any, source: Any, **_: Any) -> None:
        defaults = source.maps[-1]
        # By Celery's old names where the project uses those, or they would be looked at before the project's.
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

        A task that this process does not know has its row all the same, for workers that do; it cannot be said here
        whether the arguments fit it. Raises what ``Task.apply_async`` raises.
        """
        if isinstance(options.get("task_type"), celery.Task) and getattr(options["task_type"], "durable", False):
            # Celery's own ``apply_async`` ends here, which tools wrap that follow a call.
            return options.pop("task_type").enqueue(args, kwargs, task_id, countdown=countdown, eta=eta, **options)
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
