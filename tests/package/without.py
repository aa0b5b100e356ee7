"""
A small project on SQLite, in an environment that lacks some of the packages that are optional.

``python -m tests.package.without FOLDER PACKAGE...`` runs two tasks there and prunes them, and says as JSON what came
of it. Run in a process of its own: what is imported once can be missing no more.
"""

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from datetime import timedelta
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

#: What a project may have beside Django and Celery, with the apps that it then names.
OPTIONAL = {
    "django_celery_beat": ["django_celery_beat", "celery_ledger.contrib.beat"],
    "django_celery_results": ["django_celery_results"],
    "prometheus_client": [],
    "psycopg": [],
    "redis": [],
    "rest_framework": [],
}
#: The modules that need one of them, and say so.
NEEDY = {"celery_ledger.contrib": "django_celery_beat", "celery_ledger.watch.metrics": "prometheus_client"}


class Lacking(MetaPathFinder):
    """Has packages missing."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.partition(".")[0] in self.names:
            raise ImportError(f"{fullname} is not installed here")


def modules() -> Iterator[str]:
    """Yield every module of the package that needs nothing optional."""
    import celery_ledger

    for module in pkgutil.walk_packages(celery_ledger.__path__, "celery_ledger.", onerror=print):
        if not module.name.startswith(tuple(NEEDY)):
            yield module.name


def run(folder: Path, missing: Sequence[str]) -> dict[str, Any]:
    """Migrate, enqueue, run and prune, and return what was seen."""
    sys.meta_path.insert(0, Lacking(missing))
    from celery import shared_task

    from tests.package.small import set_up

    set_up(folder, apps=[app for package, apps in OPTIONAL.items() if package not in missing for app in apps])
    from django.apps import apps
    from django.db import connection

    for name in modules():
        importlib.import_module(name)

    from celery_ledger import promises, testing
    from celery_ledger.desk import dead_letters, pruner
    from celery_ledger.models import DurableTask, Tally

    @shared_task(name="small.add")
    def add(x: int, y: int) -> int:
        return x + y

    @shared_task(name="small.fail", max_retries=0)
    def fail() -> None:
        raise ValueError("as it was told")

    def results() -> list[str] | None:
        if not apps.is_installed("django_celery_results"):
            assert "django_celery_results_taskresult" not in connection.introspection.table_names()
            return None
        return sorted(apps.get_model("django_celery_results", "TaskResult").objects.values_list("status", flat=True))

    add.delay(2, 2)
    fail.delay()
    said: dict[str, Any] = {"ran": testing.drain(), "promises": sorted(promises.promises())}
    said["broken"] = [line for violations in promises.promises().values() for line in violations()]
    said["statuses"] = sorted(DurableTask.objects.values_list("status", flat=True))
    said["counted"] = dict(Tally.objects.order_by("outcome").values_list("outcome", "rows"))
    said["results"] = results()
    dead_letters.discard(list(DurableTask.objects.filter(status="dead").values_list("id", flat=True)), reason="seen")
    said["pruned"] = pruner.prune(older_than=timedelta(0))
    said["results_left"] = results()
    said["imported"] = sorted(name for name in OPTIONAL if name in sys.modules)
    return said


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        said = run(Path(sys.argv[1]), sys.argv[2:])
    print(json.dumps(said))
