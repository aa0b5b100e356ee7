"""The host that the harness kills workers in, and the processes that it does not."""

import os
import subprocess
import sys
import time
from itertools import count

import django
import pytest
from due_work_harness import configure
from due_work_harness.integrations.django import django_host
from due_work_harness.integrations.django.receivers import django_receiver_breaker

django.setup()

from celery_ledger.contrib.django_tasks.framework import signals  # noqa: E402
from celery_ledger.rows import paces  # noqa: E402

#: Measurements are written after each task, and not twice a second: each run of a task has the same commits.
paces.FLUSH_EVERY = 0.0

#: Of nothing that was there before.
numbers = count(int(time.time()))


def nothing(**kwargs):
    """A receiver of the project's."""


def pytest_configure(config):
    its = signals()
    all_of_them = (its.task_enqueued, its.task_started, its.task_finished)
    for signal in all_of_them:
        signal.connect(nothing)
    configure(
        django_host(
            production_packages={"celery_ledger", "proj"}, receiver_breaker=django_receiver_breaker(*all_of_them)
        )
    )


@pytest.fixture(scope="session")
def django_db_setup():
    """The database is there, for processes of the test's own look at it too."""


@pytest.fixture(scope="module")
def relay():
    """A relay, where workers are processes too; beside a history of one process it would take its rows."""
    process = subprocess.Popen([sys.executable, "-m", "proj.manage", "relay"], env=os.environ)
    yield
    process.terminate()
    process.wait(timeout=30)
