"""Calls tasks of a foreign project in a transaction, and writes down the ids: in the order of its arguments,
the file for them, how the transaction ends, how many calls of each, and in JSON the tasks with their arguments."""

import json
import sys
from importlib import import_module
from pathlib import Path

import django

django.setup()

from django.db import transaction  # noqa: E402
from django.utils.module_loading import import_string  # noqa: E402


class UndoneError(Exception):
    """The caller thinks better of it."""


file, end, count, tasks, app = sys.argv[1:]
import_module(app)
known = [(import_string(path), arguments) for path, arguments in json.loads(tasks)]
calls = []
try:
    with transaction.atomic():
        calls += [task.apply_async(args=arguments).id for _ in range(int(count)) for task, arguments in known]
        if end == "rollback":
            raise UndoneError
except UndoneError:
    pass
Path(file).write_text("\n".join(calls))
