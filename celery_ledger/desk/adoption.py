"""
The effects of adding the package to a project, read from its tasks, settings and code. For ``ledger_adopt``.

Nothing in the project is called or changed. Most of the report is a guess about code, for people who know that code:
which tasks seem to talk to other systems, and which seem to work in the database alone.
"""

import ast
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import celery
from celery import _state
from django.apps import apps
from django.core.checks import CheckMessage
from django.core.checks.registry import registry

from celery_ledger.desk.effects import effects_of, is_own, is_own_path
from celery_ledger.models import PRIORITIES
from celery_ledger.project import FALLBACK, find_app, import_all

THE_CHECKS: Final = "celery_ledger.checks"
#: Options of a call that a row cannot keep.
UNKNOWN_OPTIONS: Final = frozenset(("exchange", "routing_key"))
#: Libraries that are named of each task with external effects.
MOST_NAMED: Final = 4
CALLS: Final = frozenset(("apply_async", "apply_async_on_commit", "signature", "subtask", "s", "si", "set"))


@dataclass(frozen=True)
class Remark:
    """A finding for the adopting project: its subject, a description, and advice."""

    topic: str
    about: str
    words: str
    advice: str = ""


def remarks() -> Iterator[Remark]:
    """
    Yield all findings about this project.

    Raises:
        AppNotFoundError: the project has no Celery app.
    """
    app = find_app()
    import_all()
    tasks = {name: app.tasks[name] for name in sorted(app.tasks) if not name.startswith(("celery.", "celery_ledger."))}
    yield from _of_settings()
    yield from _of_apps(app)
    yield from _of_bases(app, tasks)
    yield from _of_options(tasks)
    yield from _of_calls()
    yield from _of_queues(app, tasks)
    yield from _of_effects(tasks)


def _of_settings() -> Iterator[Remark]:
    """Findings of the package's checks; W002 and W017 concern the decision that is being made."""
    for message in _of_checks():
        if message.id not in {"celery_ledger.W002", "celery_ledger.W017"}:
            kind = "an error" if message.is_serious() else "a warning"
            yield Remark("settings", str(message.id), f"{kind}: {message.msg}", message.hint or "")


def _of_checks() -> Iterator[CheckMessage]:
    """Run only the package's checks: a project's own may query a database that is not available."""
    for check in registry.get_checks():
        if inspect.unwrap(check).__module__ == THE_CHECKS:
            yield from check(app_configs=None, databases=None)


def _of_apps(app: Any) -> Iterator[Remark]:
    """Other Celery apps: their tasks' calls are durable only if the app itself is."""
    for other in _state._get_active_apps():
        if other is not app and other.main not in {None, FALLBACK} and other.tasks:
            yield Remark(
                "apps",
                str(other.main),
                f"another Celery app besides {app.main}: calls of its tasks are durable if its own task_cls says so",
                "Give both the same task_cls.",
            )


def _of_bases(app: Any, tasks: dict[str, Any]) -> Iterator[Remark]:
    """Task classes that would stay plain Celery: they do not derive from the app's own class."""
    of_class: dict[type, list[str]] = defaultdict(list)
    for name, task in tasks.items():
        if getattr(task, "durable", None) is None and not _is_of_an_app(type(task)):
            of_class[_root(type(task))].append(name)
    own = app.Task.__mro__[1]
    if not own.__module__.startswith("celery.") and getattr(own, "durable", None) is None:
        root = _root(app.Task)
        yield Remark(
            "base classes",
            f"{root.__module__}.{root.__qualname__}",
            f"task_cls of {app.main} derives from it, and it from celery.Task: so its tasks are not durable",
            "Derive it from celery_ledger.Task, and leave task_cls as it is.",
        )
    for base, names in of_class.items():
        if base is celery.Task:
            yield Remark(
                "base classes",
                "base=celery.Task",
                f"{_listed(names)}: not durable, because base= names Celery's own class and not the app's",
                "Remove base=, or name celery_ledger.Task; or leave these tasks as they are.",
            )
            continue
        yield Remark(
            "base classes",
            f"{base.__module__}.{base.__qualname__}",
            f"{_listed(names)}: not durable, because their class derives from celery.Task",
            "Derive it from celery_ledger.Task, if it is yours; or leave these tasks as they are.",
        )


def _root(kind: type) -> type:
    """Return the class that derives directly from celery.Task: the one to change."""
    return next((each for each in kind.__mro__[1:] if celery.Task in each.__bases__), kind.__mro__[1])


def _is_of_an_app(kind: type) -> bool:
    """Whether a task class derives, directly or not, from an app's own class, which task_cls changes."""
    return any(each.__dict__.get("_app") is not None for each in kind.__mro__[1:] if each is not celery.Task)


def _of_options(tasks: dict[str, Any]) -> Iterator[Remark]:
    """Task options that have a different meaning, or none, for a row."""
    said: list[tuple[str, Callable[[Any], bool], str, str]] = [
        (
            "rate_limit",
            lambda task: bool(task.rate_limit),
            "enforced by the relays for all workers together, and not by each worker for itself",
            "Multiply it by the number of your workers, if that is the rate you have now.",
        ),
        (
            "priority",
            lambda task: _is_no_priority(task.priority),
            "only 0, which is first, to 9 are accepted: calls would be refused",
            "Choose one of these.",
        ),
        (
            "serializer",
            lambda task: task.serializer not in {"json", None} and task.serializer != task.app.conf.task_serializer,
            "arguments that are not JSON are stored as the serializer writes them, if accept_content allows it",
            "Pass ids, and load the objects in the task: other arguments cannot be read or edited.",
        ),
        (
            "acks_late=False",
            lambda task: _says(task, "acks_late") is False,
            "after a crash they become dead letters and do not run again",
            "Set acks_late=True, or remove the option, for tasks that may run again.",
        ),
    ]
    for option, has_it, what, advice in said:
        if names := [name for name, task in tasks.items() if has_it(task)]:
            yield Remark("options", option, f"{_listed(names)}: {what}", advice)
    serializer = next((task.app.conf.task_serializer for task in tasks.values()), "json")
    if serializer != "json":
        yield Remark(
            "options",
            f"task_serializer = {serializer!r}",
            "arguments that are not JSON are stored as the serializer writes them if accept_content allows it, "
            "and refused otherwise",
            "Run your tests with the package, and look for a TypeError that names a task's arguments. Pass ids.",
        )


def _says(task: Any, option: str) -> Any:
    """Return the value that a decorator, or a class of the project, sets for an option; None: it is not set."""
    for each in type(task).__mro__:
        if each.__module__.startswith(("celery.", "celery_ledger.")):
            return None
        if option in each.__dict__ and (each is not type(task) or getattr(task, "durable", False)):
            return each.__dict__[option]
    return None


def _of_calls() -> Iterator[Remark]:
    """Refused options in calls, anywhere in the project's own code."""
    for path in _own_files():
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                for option, advice in _refused(node):
                    words = f"{node.func.attr}({option}) is refused for a durable task"
                    yield Remark("calls", f"{_from_here(path)}:{node.lineno}", words, advice)


def _refused(call: ast.Call) -> Iterator[tuple[str, str]]:
    for keyword in call.keywords:
        if keyword.arg in UNKNOWN_OPTIONS:
            yield f"{keyword.arg}=...", "Name a queue: queue=..."
        elif keyword.arg == "priority" and _is_no_priority(getattr(keyword.value, "value", None)):
            yield f"priority={ast.unparse(keyword.value)}", "Choose 0, which is first, to 9."


def _is_no_priority(value: Any) -> bool:
    return isinstance(value, int) and value not in PRIORITIES


def _of_queues(app: Any, tasks: dict[str, Any]) -> Iterator[Remark]:
    """Queues that tasks name but no worker consumes."""
    named: dict[str, list[str]] = defaultdict(list)
    for name, task in tasks.items():
        route = app.amqp.router.route({}, name)
        queue = getattr(task, "queue", None) or route.get("queue") or app.conf.task_default_queue
        named[getattr(queue, "name", queue)].append(name)
    for queue, names in sorted(named.items()):
        if not app.conf.task_create_missing_queues and queue not in app.amqp.queues:
            yield Remark(
                "queues",
                queue,
                f"{_listed(names)}: there is no such queue, and task_create_missing_queues is off",
                "Name it in task_queues.",
            )
    answers = _queues_taken(app)
    if answers is None:
        every = ", ".join(sorted(named))
        yield Remark("queues", every, "no worker responds, so it is unknown which of these are consumed")
        return
    for queue in sorted(set(named) - answers):
        yield Remark(
            "queues",
            queue,
            f"{_listed(named[queue])}: no running worker consumes it",
            f"Start one: celery worker -Q {queue}",
        )


def _queues_taken(app: Any) -> set[str] | None:
    """Return the queues consumed by the workers that answer; None: none answers."""
    try:
        # On a separate connection: Celery takes two from the pool, and waits forever if the pool has only one.
        with app.connection_for_write() as connection:
            answers = app.control.inspect(timeout=1.0, connection=connection).active_queues() or {}
    except Exception:  # noqa: BLE001 - whatever a broker that is away raises
        return None
    return {queue["name"] for queues in answers.values() for queue in queues} if answers else None


def _of_effects(tasks: dict[str, Any]) -> Iterator[Remark]:
    """Tasks that seem to have external effects, and tasks that seem to use only the database."""
    inside = []
    for name, task in tasks.items():
        function = inspect.unwrap(getattr(task.run, "__func__", task.run))
        outside = effects_of(function)
        if not outside:
            inside += [name] if is_own(str(task.run.__module__)) else []
            continue
        yield Remark(
            "outside",
            name,
            f"seems to have external effects, through {_listed(_places(function, outside), MOST_NAMED)}",
            "Leave it as it is: it runs at least once. If running it twice does harm, set acks_late=False.",
        )
    for name in inside:
        yield Remark(
            "inside",
            name,
            "seems to work only in the database",
            "If that is so and it is short, transactional=True makes its effects happen exactly once.",
        )


def _places(function: Any, outside: dict[str, str]) -> list[str]:
    """Return libraries with external effects, with the functions that use them, unless that is the task's own."""
    own = f"{function.__module__}.{function.__qualname__}"
    first: dict[str, str] = {}
    for module, place in outside.items():
        first.setdefault(module if module.startswith("django.") else module.partition(".")[0], place)
    return [library if place == own else f"{library} ({place})" for library, place in first.items()]


def _own_files() -> Iterator[Path]:
    seen: set[Path] = set()
    for each in apps.get_app_configs():
        folder = Path(each.path)
        if not is_own_path(folder):
            continue
        for path in folder.rglob("*.py"):
            if path not in seen and "migrations" not in path.parts and is_own_path(path):
                seen.add(path)
                yield path


def _from_here(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
