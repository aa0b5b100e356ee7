"""What the package says that others may use, and what its own rooms need of each other."""

import inspect
from importlib import import_module

import pytest

import celery_ledger
from celery_ledger.work.runnable import Runnable

PUBLIC = [
    *("clock", "conf", "context", "errors", "events", "faults", "models", "patience", "project", "promises"),
    *("retries", "signals", "task", "tasks", "testing", "uuid7", "walking"),
]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_names_what_it_offers_and_says_what_each_does(name):
    module = import_module(f"celery_ledger.{name}")

    assert module.__doc__
    for offered in module.__all__:
        value = getattr(module, offered)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{offered} promises nothing."
            assert value.__module__.startswith("celery_ledger"), f"{name}.{offered} is somebody else's."


def test_what_the_package_itself_offers_is_there():
    for offered in celery_ledger.__all__:
        assert inspect.getdoc(getattr(celery_ledger, offered))


def test_a_durable_task_is_what_a_worker_needs():
    needed = {*Runnable.__annotations__, *(name for name in vars(Runnable) if not name.startswith("_"))}

    assert {"run", "transactional", "max_attempts", "pause_after", "take"} <= needed
    assert [name for name in sorted(needed) if not hasattr(celery_ledger.Task, name)] == []
