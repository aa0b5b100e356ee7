"""Schedules as an operator sees them, and actions on them, over every interface."""

import json
from datetime import datetime, timedelta
from io import StringIO
from itertools import pairwise

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from audit_trail.models import AuditEntry
from celery_ledger.contrib.beat import runs, timetable
from celery_ledger.contrib.beat.models import Run
from celery_ledger.contrib.beat.schedule import LedgerScheduler
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from tests import probe  # noqa: F401 - Its tasks are scheduled.
from tests.shop import api, make_user
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def often():
    """A schedule of every minute that ran last two minutes ago."""
    PeriodicTask.objects.all().delete()
    interval = IntervalSchedule.objects.create(every=1, period="minutes")
    ran = timezone.now() - timedelta(minutes=2)
    return PeriodicTask.objects.create(
        name="often", task="tests.make_collection", args='["scheduled"]', interval=interval, last_run_at=ran
    )


@pytest.fixture
def planner():
    user = make_user(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="change_periodictask"))
    return user


def made():
    """The tasks of the schedules here: who is made is welcomed by another."""
    return DurableTask.objects.filter(name="tests.make_collection")


def tell(user, schedule, what):
    return api(user).post(f"/api/ops/schedules/{schedule.pk}/tell/", {"what": what})


def outbox(*arguments):
    out = StringIO()
    call_command("outbox", *arguments, stdout=out)
    return out.getvalue()


def test_a_run_of_beat_is_shown_with_how_it_ended_and_the_next_five_due_times(often, planner):
    LedgerScheduler(app=app).tick()
    drain()
    listed = api(planner).get("/api/ops/schedules/").json()["results"]
    [row] = [row for row in listed if row["name"] == "often"]  # Beat adds one of Celery's own.

    [run] = row["runs"]
    task = made().get()
    assert (run["task_id"], run["status"], run["error"]) == (str(task.id), "succeeded", "")
    assert run["took_seconds"] >= 0
    assert (row["name"], row["times"], row["enabled"], row["late_since"]) == ("often", "every minute", True, None)
    due = [datetime.fromisoformat(time) for time in row["next_due"]]
    assert [later - before for before, later in pairwise(due)] == [timedelta(minutes=1)] * 4
    assert due[0] > timezone.now()


def test_it_is_run_now_beside_its_due_times_also_while_it_is_paused(often, planner):
    assert tell(planner, often, "pause").json()["enabled"] is False
    told = tell(planner, often, "run-now").json()

    assert (len(told["runs"]), told["next_due"]) == (1, [])
    task = made().get()
    assert (str(task.id), task.args) == (told["runs"][0]["task_id"], ["scheduled"])
    tell(planner, often, "run-now")
    assert made().count() == 2
    entries = AuditEntry.objects.filter(model="django_celery_beat.periodictask", object_id="often").order_by("id")
    assert [(entry.who, entry.after.keys() & {"enabled", "run"}) for entry in entries] == [
        (planner, {"enabled"}),
        (planner, {"run"}),
        (planner, {"run"}),
    ]


def test_what_was_due_while_it_was_paused_does_not_run_later(often, planner):
    tell(planner, often, "pause")
    LedgerScheduler(app=app).tick()
    assert not made().exists()
    assert tell(planner, often, "resume").json()["enabled"] is True
    LedgerScheduler(app=app).tick()
    assert made().count() <= 1  # A whole minute may have begun since.


def test_what_is_late_or_broken_comes_first(often, planner):
    PeriodicTask.objects.filter(pk=often.pk).update(last_run_at=timezone.now() - timedelta(hours=2))
    never = CrontabSchedule.objects.create(minute="0", hour="0", day_of_month="31", month_of_year="2", timezone="UTC")
    PeriodicTask.objects.create(name="a broken one", task="tests.make_collection", crontab=never)
    sound = IntervalSchedule.objects.create(every=1, period="days")
    PeriodicTask.objects.create(name="a sound one", task="tests.make_collection", interval=sound)
    late, broken, well = api(planner).get("/api/ops/schedules/").json()["results"]

    assert (late["name"], late["late_since"] is not None) == ("often", True)
    assert (broken["name"], broken["next_due"]) == ("a broken one", [])
    assert "it is never due" in broken["problem"]
    assert (well["name"], well["problem"]) == ("a sound one", "")
    refused = api(planner).post(f"/api/ops/schedules/{broken['id']}/tell/", {"what": "run-now"})
    assert (refused.status_code, made().count()) == (409, 0)


def test_a_task_that_there_is_not_is_not_enqueued(often, planner):
    PeriodicTask.objects.filter(pk=often.pk).update(task="tests.gone")
    refused = tell(planner, often, "run-now")
    assert (refused.status_code, refused.json()["detail"]) == (409, "There is no task 'tests.gone' here.")


@pytest.mark.parametrize("body", [{}, {"what": "dance"}, {"what": "pause", "more": 1}, []])
def test_what_nobody_understands_is_refused(often, planner, body):
    assert api(planner).post(f"/api/ops/schedules/{often.pk}/tell/", body, format="json").status_code == 400
    assert api(planner).post("/api/ops/schedules/987654/tell/", {"what": "pause"}).status_code == 404
    assert PeriodicTask.objects.get().enabled


def test_staff_without_the_permission_change_nothing(often):
    assert tell(make_user(is_staff=True), often, "pause").status_code == 403
    assert PeriodicTask.objects.get().enabled


def test_only_the_latest_runs_are_kept(often):
    for number in range(runs.KEPT + 5):
        runs.enqueue(app, often, timezone.now(), key=f"{number}:")
    assert Run.objects.count() == runs.KEPT
    assert len(timetable.schedules()[0].runs) == timetable.SHOWN
    DurableTask.objects.all().delete()
    assert {run.status for run in timetable.schedules()[0].runs} == {""}


def test_the_command_line_does_the_same(often):
    assert outbox("schedule", "often", "run-now") == "often is enqueued once.\n"
    assert json.loads(outbox("schedule", "often", "pause", "--json"))["enabled"] is False
    assert "often  tests.make_collection  every minute  paused" in outbox("schedules")
    outbox("schedule", "often", "resume")
    assert "    due " in outbox("schedules")
    assert json.loads(outbox("schedules", "--json"))[0]["runs"][0]["status"] == "pending"
    with pytest.raises(CommandError, match="There is no schedule 'seldom'"):
        outbox("schedule", "seldom", "pause")
