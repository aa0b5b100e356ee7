"""
A database of the last release before the ledger was a package, with 10,000 tasks in it.

``postgresql.sql.gz`` and ``sqlite.sql.gz`` are what its own migrations make; ``make.py`` wrote them, with the
release's code. What the machinery, people and tasks leave behind in use is written here.
"""

import gzip
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

FOLDER = Path(__file__).parent
NOW = datetime.now(UTC).replace(tzinfo=None)
#: How many tasks of each kind there are.
COUNTS = {
    "succeeded": 3_000,
    "dead": 1_000,
    "cancelled": 600,
    "due": 3_000,
    "redelivery": 100,
    "retrying": 200,
    "later": 100,
    "expired": 1_000,
    "published": 900,
    "suspect": 50,
    "running": 50,
}
#: The kinds that are to run, once, when the machinery is there again; but those of ``later``.
OPEN = ("due", "redelivery", "retrying", "expired", "published", "suspect", "running")
BATCHED, SINGLE = "tests.make_collections", "tests.make_collection"
TASK_COLUMNS = (
    "id, name, queue, status, priority, args, kwargs, attempts, attempt_limit, lapses, subject, request_id, "
    "unique_key, created_at, available_at, published_at, lease_until, completed_at, last_error"
)
Execute = Callable[[str, Iterable[Sequence[object]]], object]


def dump(vendor: str) -> str:
    return gzip.decompress((FOLDER / f"{vendor}.sql.gz").read_bytes()).decode()


def task_id(kind: str, number: int) -> str:
    """Return the id of a task, as both databases take it."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{kind} {number}").hex


def title(kind: str, number: int) -> str:
    """Return what a task's effect is called."""
    return f"old {kind} {number}"


def at(seconds: float) -> str:
    return str(NOW + timedelta(seconds=seconds))


def fill(execute: Execute, marks: Path) -> None:
    """
    Write it all with ``execute``, which takes a statement with ``?`` and the rows of values for it.

    A task with an effect outside the database leaves a line in ``marks``.
    """
    execute(
        f"INSERT INTO worker_durabletask ({TASK_COLUMNS}) VALUES ({', '.join('?' * 19)})",
        [_task(kind, number, marks) for kind, count in COUNTS.items() for number in range(count)],
    )
    execute(
        "INSERT INTO store_collection (title) VALUES (?)",
        [[title("succeeded", number)] for number in range(COUNTS["succeeded"])],
    )
    execute(
        "INSERT INTO worker_failedattempt (task_id, number, failed_at, worker, error, traceback)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            [task_id(kind, number), attempt, at(-900), "worker-1@old", "OSError: away", "Traceback ..."]
            for kind, attempts in (("dead", 1), ("retrying", 2))
            for number in range(COUNTS[kind])
            for attempt in range(1, attempts + 1)
        ],
    )
    execute(
        "INSERT INTO worker_tally (queue, name, outcome, bucket, slot, rows, messages, seconds)"
        " VALUES ('default', ?, ?, ?, ?, ?, 0, 1.5)",
        [
            *([SINGLE, "succeeded", 3, slot, rows] for slot, rows in enumerate((1_000, 1_500, 500))),
            [SINGLE, "dead", 0, 0, 1_000],
            ["worker.tasks.redeliver", "retried", 0, 0, 7],
        ],
    )
    execute(
        "INSERT INTO worker_queuesample (at, queue, pending, published, running, dead, succeeded, failed, lag)"
        " VALUES (?, 'default', 1, 2, 3, 4, 5, 6, 7.5)",
        [[at(-10 * number)] for number in range(100)],
    )
    execute("INSERT INTO worker_queueswitch (queue) VALUES (?)", [["reports"]])
    execute(
        "INSERT INTO worker_queuelimit (queue, per_second, concurrency, allowance) VALUES (?, ?, ?, ?)",
        [["emails", 50.0, 20, 0.5]],
    )
    execute("INSERT INTO worker_canary (queue, seen_at) VALUES (?, ?)", [["default", at(-5)]])
    execute(
        "INSERT INTO worker_heartbeat (process, kind, state, queues, active, received) VALUES (?, ?, 'ok', '[]', 0, 0)",
        [["relay 1 at old", "relay"], ["worker-1@old", "worker"]],
    )
    execute(
        "UPDATE worker_schedulepolicy SET catch_up = 'skip', alert_after = ? WHERE schedule_id ="
        " (SELECT id FROM django_celery_beat_periodictask WHERE name = 'Low-stock sweep')",
        [[77]],
    )
    _fill_people(execute)


def _fill_people(execute: Execute) -> None:
    """Write a group that may replay, a user who is in it and may pause queues, and what that user did."""
    execute(
        "INSERT INTO core_user (id, password, is_superuser, username, first_name, last_name, is_staff, is_active,"
        " date_joined, email) VALUES (1000, '', ?, 'olga', '', '', ?, ?, ?, 'olga@example.com')",
        [[False, True, True, at(0)]],
    )
    execute("INSERT INTO auth_group (id, name) VALUES (?, 'desk')", [[1000]])
    execute("INSERT INTO core_user_groups (user_id, group_id) VALUES (1000, ?)", [[1000]])
    permission = "SELECT ?, id FROM auth_permission WHERE codename = ?"
    execute(
        f"INSERT INTO auth_group_permissions (group_id, permission_id) {permission}",
        [[1000, "view_durabletask"], [1000, "replay_durabletask"]],
    )
    execute(
        f"INSERT INTO core_user_user_permissions (user_id, permission_id) {permission}", [[1000, "change_queueswitch"]]
    )
    execute(
        "INSERT INTO django_admin_log (action_time, object_id, object_repr, action_flag, change_message,"
        " content_type_id, user_id) SELECT ?, ?, 'a task', 2, '', id, 1000 FROM django_content_type"
        " WHERE app_label = 'worker' AND model = 'durabletask'",
        [[at(-60), str(uuid.UUID(task_id("dead", 0)))]],
    )
    execute(
        "INSERT INTO core_auditentry (at, what, model, object_id, before, after, request_id, who_id)"
        " VALUES (?, 'changed', 'worker.durabletask', ?, '{}', '{}', '', 1000)",
        [[at(-60), str(uuid.UUID(task_id("dead", 0)))]],
    )


def _task(kind: str, number: int, marks: Path) -> list[object]:
    status = {"succeeded": "succeeded", "dead": "dead", "cancelled": "cancelled", "running": "running"}.get(kind)
    if kind in ("expired", "published", "suspect"):
        status = "published"
    ended = status in ("succeeded", "dead", "cancelled")
    name, args, kwargs = BATCHED, [title(kind, number)], {}
    if kind == "redelivery":
        name, args = "worker.tasks.redeliver", []
        kwargs = {
            "signal": "worker.tasks_replayed",
            "dispatch_uid": "core.record_replay",
            "arguments": {"ids": [str(uuid.UUID(task_id(kind, number)))], "who": None},
        }
    elif kind == "running":
        name, args = "tests.leave_mark", [str(marks), 0]
    elif kind in ("succeeded", "dead", "suspect") or (kind == "due" and number % 10 == 0):
        name = SINGLE
    lease = {"expired": -5, "published": 600, "suspect": -5, "running": -5}.get(kind)
    return [
        task_id(kind, number),
        name,
        "default",
        status or "pending",
        5,
        json.dumps(args),
        json.dumps(kwargs),
        {"succeeded": 1, "dead": 1, "retrying": 2, "running": 1}.get(kind, 0),
        None,
        1 if kind == "suspect" else 0,
        f"store.order:{number}" if kind == "dead" else None,
        "",
        f"key of {kind} {number}" if kind == "later" else None,
        at(-1_000),
        at(24 * 3_600) if kind == "later" else at(-900),
        None if lease is None else at(-30),
        None if lease is None else at(lease),
        at(-800) if ended else None,
        "OSError: away" if kind in ("dead", "retrying") else "",
    ]
