"""
A project's use of ``AsyncResult``: with the two lines alone, and with its own result backend.

One shell asks all of it of one worker, for processes are what costs here.
"""

import json

import pytest

from tests.package.test_two_lines import pytestmark  # noqa: F401 - they are slow for the same reason

#: So often a caller waits for a task, and how long it may be told late, in seconds: half of the times, on any machine.
ROUNDS = 40
LATE = 0.25

TOLD_LATE = """
# How long after the commit the waiter knows.
late = []
for number in range(ROUNDS + 1):
    call = gives.delay(number)
    assert call.get(timeout=60) == number
    now = time.time()
    late.append(now - DurableTask.objects.get(id=call.id).completed_at.timestamp())
late = sorted(late[1:])
said["late"] = [late[len(late) // 2], late[-1]]
""".replace("ROUNDS", str(ROUNDS))

ASKED = """
import json, os, sys, time
from celery import current_app, exceptions
from celery.result import AsyncResult, ResultSet
from django.db import OperationalError, connection, transaction
from celery_ledger.models import DurableTask
from habits.answers import *
said = {}

def until(call, state):
    deadline = time.monotonic() + 60
    while call.state != state and time.monotonic() < deadline:
        time.sleep(0.01)
    return call

# A result is there, and so are its effects.
call = makes_widget.delay("of a result")
made = call.get(timeout=60)
said["effects"] = Widget.objects.get(id=made).name
found = AsyncResult(call.id)
said["success"] = [found.state, found.status, found.ready(), found.successful(), found.failed(), found.result == made]
said["about"] = [found.name, found.args, found.kwargs, found.date_done is not None]
said["set"] = ResultSet([gives.delay(1), gives.delay({"two": [None]}), gives.delay(None)]).join(timeout=60)

# An error comes back as what it was.
call = has_none.delay("tea", 3)
try:
    call.get(timeout=60)
except OutOfStockError as error:
    said["error"] = list(error.args)
said["failure"] = [call.state, call.failed(), repr(call.info), "raise OutOfStockError" in call.traceback]

# States on the way.
said["pending"] = AsyncResult(gives.apply_async(("later",), countdown=3600).id).state
try:
    gives.apply_async(("later",), countdown=3600).get(timeout=0.2)
except exceptions.TimeoutError:
    said["timeout"] = True
said["retry"] = until(comes_back_tomorrow.delay(), "RETRY").state
call = gives.apply_async(("never",), countdown=3600)
while True:
    try:
        call.revoke()
        break
    except OperationalError:  # Of an SQLite to which others write meanwhile; see the check celery_ledger.W012.
        time.sleep(0.05)
said["revoked"] = until(call, "REVOKED").state
try:
    call.get(timeout=60)
except exceptions.TaskRevokedError:
    said["revoked error"] = True

def told_on_the_way(task, name, state):
    path = os.path.join(os.getcwd(), name)
    call = until(task.delay(path), state)
    said[name] = [call.state, call.info if state == "PROGRESS" else sorted(call.info)]
    open(path, "w").close()
    said[name] += [call.get(timeout=60), call.state]
    os.unlink(path)

told_on_the_way(begins, "begun", "STARTED")
told_on_the_way(goes_on, "outside", "PROGRESS")
if connection.vendor == "postgresql":
    told_on_the_way(goes_on_inside, "inside", "PROGRESS")

# What no caller waits for.
call = keeps_quiet.delay()
said["ignored"] = [call.get(timeout=60), AsyncResult(call.id).result]
said["errors alone"] = repr(until(says_only_what_went_wrong.delay(), "FAILURE").result)
call = gives.delay("to be forgotten")
call.get(timeout=60)
call.forget()
said["forgotten"] = [AsyncResult(call.id).state, AsyncResult(call.id).result]

# A worker that dies between the commit and all that comes after it.
name = f"committed {os.getpid()}"
call = dies_when_committed.delay(name)
deadline = time.monotonic() + 60
while DurableTask.objects.get(id=call.id).status != "succeeded" and time.monotonic() < deadline:
    time.sleep(0.05)
try:
    said["killed"] = call.get(timeout=3).partition(" ")[0]
except exceptions.TimeoutError:
    said["killed"] = call.state
said["committed"] = Widget.objects.filter(name=name).count()

LATENESS
said["kept"] = gives.delay("kept").id
print(json.dumps(said))
""".replace("LATENESS", TOLD_LATE)
KEPT = f"""
import json, time
from celery_ledger.models import DurableTask
from compositions.kept import app
app.set_current()
from habits.answers import *
from django_celery_results.models import TaskResult
said = {{}}
{TOLD_LATE}
try:
    has_none.delay("tea", 3).get(timeout=60)
except OutOfStockError as error:
    said["error"] = list(error.args)
said["there"] = TaskResult.objects.filter(status="SUCCESS").count()
print(json.dumps(said))
"""


@pytest.mark.parametrize("app", ["proj.celery", "compositions.stored"])
def test_results_are_what_celery_says_they_are(project, app):
    if project.broker.extra != "redis":
        pytest.skip("The broker has no part in it.")
    project.start_worker(app.removesuffix(".celery"))
    said = json.loads(project.shell(f"from {app} import app\napp.set_current()\n{ASKED}"))
    half, worst = said.pop("late")
    print(f"{app}: told {1000 * half:.1f} ms after the task began to end, at the latest {1000 * worst:.1f} ms")
    assert half < LATE
    kept = said.pop("kept")
    on_the_way = {"outside": ["PROGRESS", {"done": 1, "of": 3}, True, "SUCCESS"]}
    if "postgresql" in project.database.settings:
        on_the_way["inside"] = on_the_way["outside"]
    assert said == on_the_way | {
        "effects": "of a result",
        "success": ["SUCCESS", "SUCCESS", True, True, False, True],
        "about": ["habits.answers.makes_widget", ["of a result"], {}, True],
        "set": [1, {"two": [None]}, None],
        "error": ["tea", 3],
        "failure": ["FAILURE", True, "OutOfStockError('tea', 3)", True],
        "pending": "PENDING",
        "timeout": True,
        "retry": "RETRY",
        "revoked": "REVOKED",
        "revoked error": True,
        "begun": ["STARTED", ["hostname", "pid"], None, "SUCCESS"],
        "ignored": [None, None],
        "errors alone": "OutOfStockError('luck')",
        "forgotten": ["PENDING", None],
        # Another backend is told after the commit: what is lost then is the result, and not the task.
        "killed": "committed" if app == "proj.celery" else "PENDING",
        "committed": 1,
    }
    if app == "compositions.stored":
        assert 0 < project.broker.client.ttl(f"celery-task-meta-{kept}") <= 600
    if app == "proj.celery":  # So it is for a process that does nothing but ask.
        assert project.shell(f"from celery.result import AsyncResult\nprint(AsyncResult({kept!r}).get(60))") == "kept"
    assert project.has_result(kept) == (app == "proj.celery")


def test_results_in_django_celery_results_are_told_as_early(project):
    if project.broker.extra != "redis":
        pytest.skip("The broker has no part in it.")
    settings = ("--settings", "compositions.kept_settings")
    project.run("manage.py", "migrate", "-v", "0", *settings)
    project.start_worker("compositions.kept")
    said = json.loads(project.run("manage.py", "shell", "-v", "0", *settings, "-c", KEPT))
    half, worst = said["late"]
    print(
        f"django-celery-results: told {1000 * half:.1f} ms after the task began to end, at most {1000 * worst:.1f} ms"
    )
    assert half < LATE
    assert (said["error"], said["there"]) == (["tea", 3], ROUNDS + 1)
