"""What signals, hooks and requests are told of a row, in whatever message, is what Celery tells of a message."""

import json

from tests.package.test_habits import lines_of
from tests.package.test_two_lines import pytestmark  # noqa: F401 - they are slow for the same reason

QUEUES = ("celery", "other")
ENDS = ("done", "fail", "retry", "late")
TOLD_BY_PARENT = ("task_received", "task_revoked")

ASKED = """
import json, time
from pathlib import Path
from habits.telling import PLAIN, WAYS
from celery_ledger.models import DurableTask, Pace
from celery_ledger.rows.outbox import collecting

FOLDER, QUEUES, ENDS = ASKED

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)

def has_ended(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return any(line["told"] == "task_revoked" or line.get("state") in ("SUCCESS", "FAILURE") for line in lines)

def call(task, end, queue, path):
    late = {"countdown": 2, "expires": 1} if end == "late" else {}
    task.apply_async(([str(path), end],), queue=queue, headers={"tenant": 7}, colour="blue", **late)
    return path

# Each by itself, and often enough that the relay knows how quick they are.
paths = [
    call(task, end, queue, Path(f"{FOLDER}/alone/{way}.{end}.{queue}"))
    for way, task in {"plain": PLAIN, **WAYS}.items() for end in ENDS for queue in QUEUES
]
until(lambda: all(map(has_ended, paths)))
riders = [WAYS[way] for way in ("inside", "batched")]

def are_known():
    for task in riders:
        call(task, "done", "celery", Path(f"{FOLDER}/before"))
    time.sleep(0.2)
    return Pace.objects.filter(name__in=[task.name for task in riders], bodies__gte=10).count() == 2

until(are_known)

def share(number):
    folder = Path(f"{FOLDER}/shared-{number}")
    folder.mkdir()
    with collecting():
        paths = [
            call(WAYS[way], end, queue, folder / f"{way}.{end}.{queue}")
            for way in ("inside", "batched") for end in ENDS[:3] for queue in QUEUES
        ]
    until(lambda: all(map(has_ended, paths)))
    queues = {}
    for path in paths:
        for message in Path(f"{path}.message").read_text().splitlines():
            queues.setdefault((path.name.partition(".")[0], message), set()).add(path.name.rpartition(".")[2])
    return {way for (way, message), served in queues.items() if len(served) == 2} == {"inside", "batched"}

for number in range(20):
    if share(number):
        print(number)
        break
"""


def told(path, way):
    """Return what was told of a call, in order, by each of the processes that tell: its caller, a worker, its child."""
    by = {"caller": [], "parent": [], "child": []}
    for line in map(json.loads, lines_of(path)):
        name = line["told"]
        teller = "caller" if name.endswith("publish") else "parent" if name in TOLD_BY_PARENT else "child"
        by[teller].append(as_plain(line, way, path))
    return by


def as_plain(line, way, path):
    """Return a line without what is known to differ: names, times, and what tells of a message and not of a task."""
    text = json.dumps(line).replace(f"telling.{way}", "telling").replace(str(path), "path")
    line = json.loads(text)
    left_out = {
        "before_task_publish": ("declare", "retry_policy", "properties"),
        "task_success": ("runtime",),  # As from Celery 5.7 on.
        "after_return": ("einfo",),  # Celery documents it and always gives None.
        "body": ("parent_id", "eta", "expires"),  # In plain Celery a retry is a child of itself.
    }
    for name in left_out.get(line["told"], ()):
        line.pop(name)
    for name in ("eta", "expires"):
        line.get("headers", {}).pop(name, None)
    return line


def of_a_batch(by):
    """Return what plain Celery tells of a body that takes one item, as it would be of a body that returns nothing."""
    child = [line for line in by["child"] if line["told"] != "body"]
    return by | {"child": [{n: None if value == "done" else value for n, value in line.items()} for line in child]}


def without_repeats(by):
    """Return the same, but for the messages that plain Celery sends to retry."""
    return by | {"caller": [line for line in by["caller"] if line["headers"]["retries"] == 0]}


def as_kept_by_a_row(by):
    """Return the same with the message's property that AMQP does not define: plain Celery loses it there."""
    child = [{**line, "colour": line["colour"] or "blue"} if "colour" in line else line for line in by["child"]]
    return by | {"child": child}


def test_each_row_is_told_of_as_plain_celery_tells_of_a_message(project, tmp_path):
    project.start_worker("proj", "-c", "1", "-Q", ",".join(QUEUES))
    (tmp_path / "alone").mkdir()
    shared = project.shell(ASKED.replace("ASKED", repr((str(tmp_path), QUEUES, ENDS))))
    assert shared, "No message has carried rows of both queues."
    for queue in QUEUES:
        for end in ENDS:
            plain = without_repeats(told(tmp_path / "alone" / f"plain.{end}.{queue}", "plain"))
            if end == "late":  # A row that expires goes to no worker.
                plain["parent"] = [line for line in plain["parent"] if line["told"] == "task_revoked"]
            if project.broker.extra != "redis":
                plain = as_kept_by_a_row(plain)
            assert [line["told"] for line in plain["caller"]] == ["before_task_publish", "after_task_publish"]
            assert (plain["child"] or plain["parent"])[-1]["told"] == (
                "task_revoked" if end == "late" else "task_postrun"
            )
            for way in ("outside", "inside", "batched"):
                expected = of_a_batch(plain) if way == "batched" else plain
                assert told(tmp_path / "alone" / f"{way}.{end}.{queue}", way) == expected, (way, end, queue)
                if end != "late" and way != "outside":
                    assert told(tmp_path / f"shared-{shared}" / f"{way}.{end}.{queue}", way) == expected, (way, end)
