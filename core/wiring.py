"""
The wiring of signals: every signal with our receivers, and the task that each enqueues.

Read from the signals themselves, in the running process. Called by ``manage.py signals``.
"""

import ast
import inspect
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import celery
from django.apps import apps
from django.contrib.auth import signals as of_auth
from django.core import signals as of_requests
from django.db.models import signals as of_models
from django.dispatch import Signal

from celery_ledger.signals import DurableSignal, GuardedReceiver, durable_signals

#: The Django signals that apps of this project listen to.
OF_DJANGO: Final = {
    name: signal
    for module in (of_models, of_auth, of_requests)
    for name, signal in vars(module).items()
    if isinstance(signal, Signal)
}


@dataclass(frozen=True)
class Connection:
    """One of our receivers, and the durable task that it enqueues, if any."""

    signal: str
    sender: str
    dispatch_uid: str
    app: str
    task: str
    queue: str
    says: str


def our_apps() -> list[str]:
    """Return the names of our own apps: those that were not installed as packages."""
    return sorted(config.name for config in apps.get_app_configs() if "site-packages" not in Path(config.path).parts)


def connections() -> list[Connection]:
    """Return all connections of our receivers in a fixed order, durable signals first."""
    found = [each for signal in durable_signals() for each in _of_signal(signal.name, signal)]
    found += [each for name in sorted(OF_DJANGO) for each in _of_signal(name, OF_DJANGO[name])]
    return found


def unnamed() -> list[str]:
    """Return our receivers without a ``dispatch_uid``: a second import would connect them twice."""
    return [
        f"{name}: {receiver.__module__}.{receiver.__qualname__}"
        for name, signal in OF_DJANGO.items()
        for (uid, _), receiver in _receivers(signal)
        if _app_of(receiver) in our_apps() and not isinstance(uid, str)
    ]


def repeated() -> list[str]:
    """Return our receivers that are connected to a signal and sender under two names: they would react twice."""
    every = {**OF_DJANGO, **{signal.name: signal for signal in durable_signals()}}
    found = []
    for name, signal in every.items():
        times = Counter((_function_of(receiver), sender) for (_, sender), receiver in _receivers(signal))
        found += [
            f"{name}: {function.__module__}.{function.__qualname__}"
            for (function, _), count in times.items()
            if count > 1 and _app_of(function) in our_apps()
        ]
    return found


def nested() -> list[str]:
    """Return our receivers that are not module-level functions: they can vanish, or not be found again."""
    every = {**OF_DJANGO, **{signal.name: signal for signal in durable_signals()}}
    functions = [_function_of(receiver) for signal in every.values() for _, receiver in _receivers(signal)]
    return [
        f"{function.__module__}.{function.__qualname__}"
        for function in functions
        if _app_of(function) in our_apps() and not (inspect.isfunction(function) and "." not in function.__qualname__)
    ]


def description(signal: DurableSignal) -> str:
    """Return the comment below a durable signal's definition, or an empty string."""
    for app in our_apps():
        module = sys.modules.get(f"{app}.signals")
        if module is None:
            continue
        body = ast.parse(inspect.getsource(module)).body
        for statement, following in pairwise(body):
            if (
                isinstance(statement, ast.Assign)
                and isinstance(statement.targets[0], ast.Name)
                and getattr(module, statement.targets[0].id, None) is signal
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                return inspect.cleandoc(str(following.value.value))
    return ""


def _of_signal(name: str, signal: Signal) -> list[Connection]:
    ours = our_apps()
    senders = {id(model): model._meta.label for model in apps.get_models(include_auto_created=True)}
    rows = []
    for (uid, sender), receiver in _receivers(signal):
        function = _function_of(receiver)
        app = _app_of(function)
        if app not in ours:
            continue
        task = _task_of(function)
        rows.append(
            Connection(
                signal=name,
                sender=senders.get(sender, ""),
                dispatch_uid=str(uid),
                app=app,
                task=task.name if task else "",
                queue=task.default_queue if task else "",
                says=(inspect.getdoc(function) or "").partition("\n")[0],
            )
        )
    return sorted(rows, key=lambda row: (row.dispatch_uid, row.sender))


def _receivers(signal: Signal) -> Iterator[tuple[tuple[Any, int], Any]]:
    for key, receiver, *_ in signal.receivers:
        yield key, receiver() if isinstance(receiver, weakref.ReferenceType) else receiver


def _function_of(receiver: Any) -> Any:
    return receiver.function if isinstance(receiver, GuardedReceiver) else receiver


def _app_of(receiver: Any) -> str:
    return str(getattr(receiver, "__module__", "")).partition(".")[0]


def _task_of(receiver: Any) -> celery.Task | None:
    """Return the durable task in a receiver's code: ``tasks.update_inventory`` or ``update_inventory``."""
    names = receiver.__code__.co_names
    known: dict[str, Any] = receiver.__globals__
    modules = [known[name] for name in names if isinstance(known.get(name), ModuleType)]
    places = [known, *map(vars, modules)]
    found = (place[name] for name in names for place in places if isinstance(place.get(name), celery.Task))
    return next(found, None)
