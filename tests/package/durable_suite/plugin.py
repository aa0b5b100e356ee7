"""A plugin of pytest: every Celery app of the tests has our class of tasks, and so has every task."""

import django
from celery import Celery, _state

initialize = Celery.__init__


def initialize_with_our_class(self, *arguments, **options):
    options.setdefault("task_cls", "durable_suite.task:Task")
    initialize(self, *arguments, **options)


Celery.__init__ = initialize_with_our_class


def pytest_configure():
    django.setup()
    from durable_suite import tasks  # noqa: F401


def pytest_terminal_summary(terminalreporter):
    from celery_ledger.models import DurableTask

    ours = [app for app in _state._get_active_apps() if getattr(app, "celery_ledger", False)]
    assert ours, "No Celery app of the tests had our class."
    assert DurableTask.objects.exists(), "Nothing of this was durable."
