"""
The generated pages of ``docs/reference/``: settings, commands, metrics, HTTP, signals, retries.

Each function returns a page. ``manage.py reference`` writes them, and a test compares.
"""

import argparse
import re
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from typing import Any, Final

from django.conf import settings
from django.core.management import BaseCommand, get_commands, load_command_class
from drf_spectacular.generators import SchemaGenerator

from celery_ledger import conf, retries
from celery_ledger.project import import_tasks
from celery_ledger.signals import durable_signals
from celery_ledger.watch import metrics
from core import wiring
from web import http_counts
from worker.celery import app

#: Options that every Django command takes.
COMMON_OPTIONS: Final = {action.dest for action in BaseCommand().create_parser("", "")._actions}
#: The marks around the table of settings in the package's README.
LEDGER_SETTINGS: Final = ("<!-- settings: written by `python manage.py reference` -->\n", "<!-- /settings -->")
METHODS: Final = ("get", "post", "put", "patch", "delete")


def settings_page() -> str:
    """Return the page of environment variables, from ``.env.example``, which lists all of them."""
    sections = re.split(r"^# --- (.+)$", (settings.BASE_DIR / ".env.example").read_text(), flags=re.MULTILINE)
    parts = [
        "# Settings\n",
        f"{written_by()} Each setting is an environment variable, or a line of `.env`: copy `.env.example` to it. "
        "`NAME_FILE` names a file that holds the value of `NAME`. On an invalid value the process exits with an "
        "error that names it.\n",
    ]
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        parts.append(f"## {title}\n")
        told = [
            (f"`{name}`", f"`{value}`" if value else "", _joined(comment))
            for comment, lines in re.findall(r"((?:^# .*\n)+)((?:^#\w+=.*\n?)+)", text, flags=re.MULTILINE)
            for name, value in re.findall(r"^#(\w+)=(.*)$", lines, flags=re.MULTILINE)
        ]
        parts.append(_table(("variable", "default", "meaning"), told))
    return "\n".join(parts)


def ledger_settings() -> str:
    """Return the table of the package's own settings, for its README."""
    rows = [(f"`{setting.name}`", f"`{setting.default}`", setting.meaning) for setting in conf.SETTINGS]
    return _table(("setting", "default", "meaning"), rows)


def commands_page() -> str:
    """Return the page of our own ``manage.py`` commands."""
    parts = ["# Commands\n", f"{written_by()} `python manage.py NAME --help` prints the same text.\n"]
    ours = sorted(name for name, app in get_commands().items() if app in wiring.our_apps())
    for name in ours:
        command = load_command_class(get_commands()[name], name)
        parts += list(_command(name, command.create_parser("manage.py", name)))
    return "\n".join(parts)


def metrics_page() -> str:
    """Return the page of the metrics in ``/metrics``. It queries the database."""
    endings = {"counter": "_total", "histogram": "_bucket", "summary": "_count"}
    rows = [
        (f"`{family.name}{endings.get(family.type, '')}`", family.type, family.documentation)
        for family in chain(metrics.ledger(), http_counts.own.collect())
    ]
    return "\n".join(
        [
            "# Metrics\n",
            f"{written_by()} `/metrics` serves the Prometheus format, to this machine and to clients that send "
            "`METRICS_TOKEN`. Alerts and a dashboard are in [deploy/](../../deploy/README.md). For one release, "
            "every metric that begins with `celery_ledger_` is also exported under its old name, with `shopwire_`.\n",
            _table(("metric", "type", "meaning"), sorted(rows)),
        ]
    )


def http_page() -> str:
    """Return the page of the HTTP API: one line for each call."""
    document: Any = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    calls: dict[str, list[tuple[str, str, str]]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method in (method for method in METHODS if method in operations):
            says = operations[method].get("summary") or operations[method].get("description", "")
            line = (f"`{method.upper()}`", f"`{path}`", says.partition("\n\n")[0].replace("\n", " "))
            calls.setdefault(path.split("/")[2] or "api", []).append(line)
    parts = [
        "# HTTP\n",
        f"{written_by()} `/api/docs/` shows each call with its fields and responses, `/api/schema/` is the OpenAPI "
        "document, and the [guide](../guide/api.md) walks through them with `curl`.\n",
    ]
    for room, rows in sorted(calls.items()):
        parts += [f"## {room}\n", _table(("method", "path", "what it does"), rows)]
    return "\n".join(parts)


def signals_page() -> str:
    """Return the page of signals and their receivers."""
    rows = wiring.connections()
    parts = [
        "# Signals and their receivers\n",
        f"{written_by()} To add a row, see [how to add a reaction](../howto/add-a-reaction.md).\n",
        "## The shop's signals\n",
        "Each is sent inside the transaction of the change. If a receiver fails, only that receiver is rolled back; "
        "it is retried later.\n",
    ]
    for signal in durable_signals():
        listeners = [row for row in rows if row.signal == signal.name]
        if signal.name.partition(".")[0] not in wiring.our_apps():
            continue
        parts += [f"### `{signal.name}`\n", _plain(wiring.description(signal)) + "\n"]
        parts.append(_listeners(listeners) if listeners else "No receivers.\n")
    parts += ["## Django's\n", "Their receivers are part of the operation: an exception in a receiver undoes it.\n"]
    parts.append(_listeners([row for row in rows if row.signal in wiring.OF_DJANGO], with_signal=True))
    return "\n".join(parts)


def retries_page() -> str:
    """Return the page of each task's retries and their times."""
    import_tasks()
    policies = [
        (
            f"`{name}`",
            policy.purpose,
            str(policy.retries),
            ", ".join(_pauses(policy.pauses())),
            f"{_duration(sum(policy.pauses()) / 2)} to {_duration(sum(policy.pauses()))}",
        )
        for name, policy in retries.POLICIES.items()
    ]
    ours = {task.name: task for task in app.tasks.values() if task.__module__.partition(".")[0] in wiring.our_apps()}
    tasks = [
        (f"`{name}`", f"`{task.retries}`", str(task.max_retries), "no" if task.transactional else "yes")
        for name, task in sorted(ours.items())
    ]
    return "\n".join(
        [
            "# Retries\n",
            f"{written_by()} A task sets its policy with `retries=` in its decorator; Celery's own options take "
            "precedence. A task whose last attempt fails becomes a dead letter, which a person replays or discards. "
            "With a `PermanentError` it becomes one at once.\n",
            "The delays listed are the longest: each is random, between half of the listed value and all of it.\n",
            _table(("policy", "what for", "retries", "delays", "in total"), policies),
            "## Tasks\n",
            _table(("task", "policy", "retries", "effects outside the database"), tasks),
        ]
    )


def _pauses(pauses: list[float]) -> Iterator[str]:
    for pause, equal in groupby(pauses):
        times = len(list(equal))
        yield _duration(pause) + (f" ({times} times)" if times > 1 else "")


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit or seconds == unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


#: Each page's name in ``docs/reference/``, and what returns it.
PAGES: Final[dict[str, Callable[[], str]]] = {
    "commands.md": commands_page,
    "http.md": http_page,
    "metrics.md": metrics_page,
    "retries.md": retries_page,
    "settings.md": settings_page,
    "signals.md": signals_page,
}


def with_ledger_settings(readme: str) -> str:
    """Return the package's README with the current table."""
    opening, closing = LEDGER_SETTINGS
    before, _, rest = readme.partition(opening)
    _, _, after = rest.partition(closing)
    return f"{before}{opening}{ledger_settings()}{closing}{after}"


def written_by() -> str:
    return "Generated from the running code by `python manage.py reference`; a test keeps it up to date."


def _command(name: str, parser: argparse.ArgumentParser, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} `{name}`\n"
    if parser.description:
        yield _sentence(parser.description) + "\n"
    options = [action for action in parser._actions if action.dest not in COMMON_OPTIONS]
    subcommands = [action for action in options if isinstance(action, argparse._SubParsersAction)]
    rows = [(_shape(action), _help_of(action)) for action in options if action not in subcommands]
    if rows:
        yield _table(("argument", "meaning"), rows)
    for action in subcommands:
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for subcommand, subparser in action.choices.items():
            subparser.description = subparser.description or helps.get(subcommand)
            yield from _command(f"{name} {subcommand}", subparser, level + 1)


def _shape(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else (action.dest if action.nargs != 0 else "")
    if not action.option_strings:
        return f"`{value}`"
    value = "" if action.nargs == 0 else f" {value.upper()}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _help_of(action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": "manage.py"}
    return f"{text}; one of {', '.join(map(str, action.choices))}".lstrip("; ") if action.choices else text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _joined(comment: str) -> str:
    return " ".join(line.removeprefix("# ") for line in comment.splitlines())


def _plain(text: str) -> str:
    """Convert reStructuredText to Markdown, as far as our docstrings use it."""
    for role in (":class:", ":func:", ":mod:"):
        text = text.replace(role, "")
    return text.replace("``", "`")


def _listeners(rows: list[wiring.Connection], *, with_signal: bool = False) -> str:
    heading = ["signal", "of"] if with_signal else []
    heading += ["receiver (`dispatch_uid`)", "what it does", "task", "queue"]
    cells = []
    for row in rows:
        told = [f"`{row.signal}`", row.sender] if with_signal else []
        cells.append([*told, f"`{row.dispatch_uid}`", _plain(row.says), f"`{row.task}`" if row.task else "", row.queue])
    return _table(heading, cells)


def _table(heading: Any, rows: Any) -> str:
    lines = [f"| {' | '.join(heading)} |", "|" + "---|" * len(heading)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"
