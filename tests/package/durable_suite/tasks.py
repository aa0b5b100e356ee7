"""The suite's tasks, those among them that derive from ``celery.Task`` by name included."""

import celery
from durable_suite.task import Task

celerys, celery.Task = celery.Task, Task
try:
    from t.integration import tasks  # noqa: F401
finally:
    celery.Task = celerys
