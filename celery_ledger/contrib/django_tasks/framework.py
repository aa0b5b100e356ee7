"""
The task framework in use: Django's own, or the backport if Django has none.

A project on Django 6 may have the backport too, because one of its applications requires it, as Wagtail does. Both read
the same setting, and the backport's ``@task`` creates what the backend specifies: in that case, Django's own tasks.
"""

from importlib import import_module
from typing import Any, Final

from django import VERSION

#: The framework's module.
NAME: Final = "django.tasks" if VERSION >= (6, 0) else "django_tasks"

base: Any = import_module(f"{NAME}.base")
backends: Any = import_module(f"{NAME}.backends.base")
exceptions: Any = import_module(f"{NAME}.exceptions")


def signals() -> Any:
    """Return the framework's module of signals, which cannot be imported before the framework itself."""
    return import_module(f"{NAME}.signals")


def find_backend(alias: str) -> Any:
    """Return the backend with this alias, from the setting ``TASKS``; raises Django's error if there is none."""
    return import_module(NAME).task_backends[alias]


#: The error that refuses a task. The backport has another name for it.
InvalidTask: Any = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
normalize_json: Any = base.normalize_json
