"""The app of the relay, which knows the suite's tasks as the tests' own apps do."""

import os

from celery import Celery
from durable_suite import tasks

app = Celery(
    "durable_suite",
    task_cls="durable_suite.task:Task",
    broker=os.environ["TEST_BROKER"],
    backend=os.environ["TEST_BACKEND"],
    include=[tasks.__name__, "celery.contrib.testing.tasks"],
)
